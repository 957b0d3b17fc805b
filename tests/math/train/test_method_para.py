"""PARA: what is left after the training is the best approximation above one threshold, evaluated and exported so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.retrain.methods import para
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.models.attach import lora_layers
from tests.helpers.methods import HEAD, SIZE, K

BUDGET, STEPS = 1.25, 8
WIDE = ("--lora.target_modules", "[query,key,intermediate.dense]")
CUT = ("--method", "para", "--lora.budget", str(BUDGET), "--retrain.learning_rate", "3e-2")


def run(config: RunConfig) -> RunFolder:
    return run_stages(Request(config, "all", False, "x"), StopRequest(), draw=False)


@pytest.fixture
def deltas(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    """Delta of every layer before and after the cut."""
    found: dict[str, dict[str, Tensor]] = {}
    original = para.cut_to

    def all_of(model: PeftModel) -> dict[str, Tensor]:
        layers: Any = lora_layers(model)
        return {name: layer.get_delta_weight("default").detach().double() for name, layer in layers.items()}

    def cut(model: PeftModel, *arguments: Any) -> Any:
        found["before"] = all_of(model)
        cut_model = original(model, *arguments)
        found["after"] = all_of(cut_model.model)
        return cut_model

    monkeypatch.setattr(para, "cut_to", cut)
    return found


@pytest.mark.trains
def test_what_is_left_is_the_best_approximation_above_one_threshold(
    tiny_config: Callable[..., RunConfig], model_folder: Callable[..., Path], deltas: dict[str, Any]
) -> None:
    folder = run(tiny_config(*CUT, *WIDE, "--retrain.scale", "rslora"))
    record, result = ranks.load(folder.ranks), json.loads(folder.metrics.read_text())
    sizes = {layer.name: 96 if "intermediate" in layer.name else SIZE for layer in record.layers}
    kept, dropped = [], []
    for layer in record.layers:
        u, s, vt = torch.linalg.svd(deltas["before"][layer.name], full_matrices=False)
        best = u[:, : layer.rank] * s[: layer.rank] @ vt[: layer.rank]
        torch.testing.assert_close(deltas["after"][layer.name], best, rtol=1e-4, atol=1e-6)
        kept += s[: layer.rank].tolist()
        dropped += [(value, sizes[layer.name]) for value in s[layer.rank : K].tolist()]
    assert min(kept) > max(value for value, _ in dropped)
    budget = int(BUDGET * sum(sizes.values()))
    assert budget - max(dropped)[1] < result["lora_parameters"] <= budget
    assert len({layer.rank for layer in record.layers}) > 1
    assert record.rule == "para"
    assert result["trainable_parameters"] == K * sum(sizes.values()) + HEAD, "what was trained"
    assert result["seconds"]["search"] is None
    # Plain PEFT loads the same function, also where the exported scale is another.
    base = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=2)
    layers: Any = lora_layers(PeftModel.from_pretrained(base, folder.adapter))
    assert {name: layer.r["default"] for name, layer in layers.items()} == record.kept
    for name, layer in layers.items():
        found = layer.get_delta_weight("default").detach().double()
        torch.testing.assert_close(found, deltas["after"][name], rtol=1e-4, atol=1e-6)


def test_one_threshold_goes_by_value_and_ends_at_the_first_component_without_room() -> None:
    values = torch.tensor([[9.0, 4.0, 1.0], [8.0, 7.0, 0.5]])
    found = para.above_one_threshold
    assert found(values, [10, 30], 70).tolist() == [[True, False, False], [True, True, False]]
    assert found(values, [10, 30], 69).tolist() == [[True, False, False], [True, False, False]]
    assert found(values, [10, 30], 120).all()
    equal = found(torch.zeros(2, 2), [1, 1], 3)
    assert equal.tolist() == [[True, True], [True, False]], "of equal ones the first layer's"
