"""What a retraining was given, and exports for two families of models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.schema import RunConfig, WithLora
from autolora.engine.retrain import trials
from autolora.engine.retrain.fit import RetrainTrainer
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.data import Data
from tests.helpers.exports import LORA_ALPHA, Exported, make_export


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


@pytest.fixture(
    scope="session",
    params=[("roberta", "rslora"), ("gpt2", "component")],
    ids="-".join,
)
def exported(
    request: pytest.FixtureRequest,
    model_folder: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    make_config: Callable[..., WithLora],
) -> Exported:
    """A run that was retrained at ranks of every kind."""
    kind, scale = request.param
    arguments = ["--retrain.scale", scale, "--lora.lora_alpha", str(LORA_ALPHA), "--retrain.learning_rate", "3e-2"]
    config = make_config(tmp_path_factory.mktemp("exported"), kind, *arguments)
    return make_export(config, kind, model_folder(kind))
