"""The fixtures of all tests: tiny random models, built here without network, and runs on them that
take seconds."""

import gc
import hashlib
import importlib.util
import logging
import os
import sys

# Before torch and the hub libraries are imported: two threads on tiny tensors only wait for each
# other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# Read once, when ray is imported: under `uv run pytest` its workers would otherwise build
# environments of their own.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["WANDB_MODE"] = "disabled"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.helpers.shared import made_once

# The fixtures import what they need: pytest's own process, which only starts the workers, needs
# none of it.
if TYPE_CHECKING:
    from autolora.configs.schema import RunConfig
    from tests.helpers.stages import Stages


def keep_bytecode(folder: Path) -> None:
    """Where bytecode may not lie beside the sources, as in many containers, this process and those
    that it starts keep it in `folder`: without it, each process takes ten seconds to compile torch
    and the other libraries."""
    torch = importlib.util.find_spec("torch")
    compiled = torch is not None and torch.cached is not None and Path(torch.cached).exists()
    if sys.dont_write_bytecode and not compiled and sys.pycache_prefix is None:
        sys.dont_write_bytecode = False
        sys.pycache_prefix = str(folder)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


keep_bytecode(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")

# No test fails because the machine is busy: hypothesis' own deadline is 200 ms for an example.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


@pytest.hookimpl(tryfirst=True)  # before -m chooses by these marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gives every test its tier: one that uses a tiny model trains, and one without a mark is a
    unit test. Those marked soak run only where -m names them."""
    for item in items:
        if {"model_folder", "chat_model"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker("trains")
        if not any(item.get_closest_marker(name) for name in ("trains", "slow", "soak")):
            item.add_marker("unit")
    left_out = (
        []
        if "soak" in config.getoption("-m")
        else [one for one in items if one.get_closest_marker("soak")]
    )
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Tells the garbage collector to skip what the imported test modules hold: it lives as long as
    the process, and a run, which collects garbage three times, need not look through half a million
    objects each time."""
    gc.freeze()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Does the same after the last test of a file, for what libraries have imported and keep since
    their first use."""
    if (nextitem is None or nextitem.path != item.path) and not item.get_closest_marker("unit"):
        gc.collect()
        gc.freeze()


def pytest_sessionfinish() -> None:
    """Unfreezes: at its end Python destroys only what is not frozen, and some libraries complain if
    anything is left."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of one run of the suite have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def model_folder(shared_folder: Path) -> Callable[..., Path]:
    """model_folder("bert", dropout=0.1): a saved base model with its tokenizer; made once for equal
    arguments."""
    from transformers import set_seed

    from tests.helpers.tiny import make_model, make_tokenizer

    def make(kind: str = "bert", dropout: float = 0.1) -> Path:
        def save(folder: Path) -> None:
            set_seed(0)
            tokenizer = make_tokenizer()
            make_model(kind, len(tokenizer), dropout).save_pretrained(folder)
            tokenizer.save_pretrained(folder)

        return made_once(shared_folder / f"{kind}-{dropout}", save)

    return make


@pytest.fixture
def tiny_config(model_folder: Callable[..., Path], tmp_path: Path) -> "Callable[..., RunConfig]":
    """tiny_config("--search.steps", "4", kind="gpt2"): a run on a tiny model, few rows, fp32, in
    tmp_path/runs."""
    from tests.helpers.command import parse
    from tests.helpers.tiny import tiny_arguments

    def make(*arguments: str, kind: str = "bert", dropout: float = 0.1) -> "RunConfig":
        return parse(
            [*tiny_arguments(model_folder(kind, dropout), tmp_path, kind), *arguments]
        ).config

    return make


@pytest.fixture(scope="session")
def finished(model_folder: Callable[..., Path], shared_folder: Path) -> Callable[..., Path]:
    """finished("--method", "lora", kind="gpt2"): the folder of a run of all stages, with shares and
    curve, made once; do not write."""
    from tests.contract.inputs import once
    from tests.contract.program import succeed
    from tests.helpers.tiny import tiny_arguments

    def make(*more: str, kind: str = "bert") -> Path:
        def train(place: Path) -> None:
            argv = tiny_arguments(model_folder(kind), place, kind, **{"measure.rows": 1000})
            succeed(*once([*argv, "--task.evaluation_rows", "64", *more]))

        digest = hashlib.sha256(repr(more).encode()).hexdigest()[:12]
        return made_once(shared_folder / f"finished-{kind}-{digest}", train) / "runs" / "tiny"

    return make


@pytest.fixture(scope="module")
def quick_figures() -> Iterator[None]:
    """Pictures are empty: drawing them takes half of a tiny run's time."""
    from matplotlib.figure import Figure
    from PIL import Image

    def save(figure: Figure, place: Any, *, format: str = "png", **_: Any) -> None:
        if format == "svg":
            place.write("<svg></svg>")
        else:
            Image.new("RGB", (1, 1)).save(place, format)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture
def run_of() -> "type[Stages]":
    """run_of(config): the stages of a run, for a test that calls them one by one."""
    from tests.helpers.stages import Stages

    return Stages


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What the program logs (caplog sees nothing of it once a run has taken the logger over)."""
    lines: list[str] = []
    handler = logging.Handler()
    log = logging.getLogger("autolora")

    def emit(record: logging.LogRecord) -> None:
        lines.append(f"{record.levelname} {record.getMessage()}")

    handler.emit = emit  # type: ignore[method-assign]
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture
def float64() -> Iterator[None]:
    """Makes float64 torch's default during the test, so that results are compared with oracles in
    double precision."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
