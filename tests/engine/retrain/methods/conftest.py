"""One finished run of each method, shared by the tests of all of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from tests.helpers.methods import LEARNED, NAMES, Done, K, R, run


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ranks as another run's search would have left them; seed 0 of this run asks for them."""
    path = tmp_path_factory.mktemp("learned") / "sample-0.json"
    write_json(path, {"k": K, "layers": [{"name": n, "rank": r} for n, r in zip(NAMES, LEARNED, strict=True)]})
    return path.with_name("{task}-{seed}.json")


@pytest.fixture(scope="session")
def done(
    learned: Path,
    model_folder: Callable[..., Path],
    make_config: Callable[..., RunConfig],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Done]:
    made: dict[tuple[str, ...], Done] = {}

    def make(method: str, *arguments: str) -> Done:
        key = (method, *arguments)
        if key not in made:
            values = ["--method", method, "--lora.r", str(R), "--lora.ranks_from", str(learned), *arguments]
            values += ["--retrain.max_steps", "16", "--retrain.learning_rate", "3e-2", "--lora.lora_alpha", "6"]
            config = make_config(tmp_path_factory.mktemp(method), "bert", *values)
            made[key] = run(config, model_folder("bert"), draw=not arguments)
        return made[key]

    return make
