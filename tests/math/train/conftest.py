"""What a retraining was given, and runs of all stages."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.interrupt import StopRequest
from autolora.engine.retrain.fit import RetrainTrainer
from autolora.engine.stages import run_stages
from autolora.engine.store.folder import RunFolder


@pytest.fixture
def run_all(tiny_config: Callable[..., RunConfig]) -> Callable[..., RunFolder]:
    """run_all("--method", "para", kind="gpt2"): the folder of a run of all stages, finished."""

    def run(*arguments: str, **model: Any) -> RunFolder:
        return run_stages(
            Request(tiny_config(*arguments, **model), "all", False, "x"), StopRequest(), draw=False
        )

    return run


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every batch that is trained on."""
    batches: list[dict[str, Any]] = []
    original = RetrainTrainer.training_step
    draws = count()

    def training_step(
        self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any
    ) -> torch.Tensor:
        batches.extend(
            {name: value.tolist() for name, value in batch.items()} for batch in inputs["batches"]
        )
        torch.rand(next(draws))  # what was drawn before a step changes none of its masks
        return original(self, model, inputs, *rest, **options)

    monkeypatch.setattr(RetrainTrainer, "training_step", training_step)
    return batches
