"""What a retraining was given."""

from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine.retrain import trials
from autolora.engine.retrain.methods import Prepared
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.context import Context
from autolora.problems.data import Data


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every batch that is trained on."""
    batches: list[dict[str, Any]] = []
    original = RetrainTrainer.training_step

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any) -> torch.Tensor:
        batches.append({name: value.tolist() for name, value in inputs.items()})
        return original(self, model, inputs, *rest, **options)

    monkeypatch.setattr(RetrainTrainer, "training_step", training_step)
    return batches


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, RunConfig]]:
    """(data, config) of every training."""
    seen: list[tuple[Any, RunConfig]] = []
    original = trials.fit

    def fit(run: Context, prepared: Prepared, data: Data, folder: Path) -> Any:
        seen.append((data, run.config))
        return original(run, prepared, data, folder)

    monkeypatch.setattr(trials, "fit", fit)
    return seen
