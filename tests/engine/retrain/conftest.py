"""What a retraining was given."""

from typing import Any

import pytest
import torch

from engine.retrain.trainer import RetrainTrainer


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
