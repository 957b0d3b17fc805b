"""What a retraining was given, one finished run of each method, and one export for each family of models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig, WithLora
from autolora.engine.retrain import trials
from autolora.engine.retrain.fit import RetrainTrainer
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.data import Data
from tests.helpers.exports import LORA_ALPHA, Exported, make_export
from tests.helpers.methods import Done, R, run
from tests.helpers.tiny import tiny_arguments


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every batch that is trained on."""
    batches: list[dict[str, Any]] = []
    original = RetrainTrainer.training_step

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any) -> torch.Tensor:
        batches.extend({name: value.tolist() for name, value in batch.items()} for batch in inputs["batches"])
        return original(self, model, inputs, *rest, **options)

    monkeypatch.setattr(RetrainTrainer, "training_step", training_step)
    return batches


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, RunConfig]]:
    """(data, config) of every training."""
    found: list[tuple[Any, RunConfig]] = []
    original = trials.fit

    def fit(run: Context, prepared: Prepared, data: Data, folder: Path) -> Any:
        found.append((data, run.config))
        return original(run, prepared, data, folder)

    monkeypatch.setattr(trials, "fit", fit)
    return found


@pytest.fixture(scope="session")
def done(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    """done("eva"): a finished run of the method."""
    made: dict[str, Done] = {}

    def make(method: str) -> Done:
        if method not in made:
            values: dict[str, Any] = {"method": method, "lora.r": R, "lora.budget": R}
            values |= {
                "retrain.max_steps": 16,
                "retrain.extra_steps": 16,
                "retrain.learning_rate": 3e-2,
                "lora.lora_alpha": 6,
            }
            argv = tiny_arguments(model_folder("bert"), tmp_path_factory.mktemp(method), **values)
            made[method] = run(parse(argv).config, model_folder("bert"))
        return made[method]

    return make


@pytest.fixture(
    scope="session",
    params=[("bert", "component"), ("roberta", "rslora"), ("gpt2", "fixed"), ("llama", "mean_rank")],
    ids="-".join,
)
def exported(
    request: pytest.FixtureRequest,
    model_folder: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    make_config: Callable[..., WithLora],
) -> Exported:
    """A run that was retrained at ranks of every kind, in all its exported forms."""
    kind, scale = request.param
    arguments = ["--export.merged", "true", "--export.padded", "true", "--retrain.scale", scale]
    arguments += ["--lora.lora_alpha", str(LORA_ALPHA), "--retrain.learning_rate", "3e-2"]
    config = make_config(tmp_path_factory.mktemp("exported"), kind, *arguments)
    return make_export(config, kind, model_folder(kind))
