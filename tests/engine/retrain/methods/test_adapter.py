"""Bottleneck adapters: what is kept is what was trained."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.schema import RunConfig
from autolora.engine.retrain.methods import METHODS
from autolora.problems.models import bottleneck
from autolora.problems.models.load import BaseModel
from tests.helpers.methods import Done


@pytest.mark.trains
def test_the_bottleneck_adapter_loads_to_the_runs_logits(done: Callable[..., Done]) -> None:
    run = done("adapter")
    model = bottleneck.load(run.plain_base(), run.folder.adapter)
    assert torch.equal(run.logits_of(model), run.logits)
    assert not torch.allclose(run.logits_of(run.plain_base()), run.logits, atol=1e-4)
    saved = load_file(run.folder.adapter / bottleneck.WEIGHTS)
    assert sum(value.numel() for value in saved.values()) == run.result["trainable_parameters"]


@pytest.mark.parametrize("new", [["classifier"], ["classifier", "pooler"], []])
def test_the_head_is_trained_whether_or_not_the_model_came_with_one(
    new: list[str], tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[list[str]] = []
    monkeypatch.setattr(bottleneck, "insert", lambda model, width, head: trained.append(head))
    run: Any = SimpleNamespace(config=tiny_config("--method", "adapter"))
    prepared = METHODS["adapter"].prepare(BaseModel(None, new), run, 8)  # type: ignore[arg-type]
    assert trained == [prepared.head] == [sorted({"classifier", "score", *new})]
