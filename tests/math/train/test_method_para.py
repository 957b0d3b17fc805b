"""PARA: what is left after the training is the best approximation above one threshold, evaluated
and exported so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from autolora.engine import ranks
from autolora.engine.disk.files import read_json
from autolora.engine.measure.lora import Lora
from autolora.engine.retrain.methods import para
from autolora.engine.store.folder import RunFolder
from autolora.problems.models.attach import lora_layers
from tests.helpers.methods import HEAD, SIZE, K

BUDGET = 1.25
STEPS = 8
WIDE = ("--lora.target_modules", "[query,key,intermediate.dense]")
CUT = ("--method", "para", "--lora.budget", str(BUDGET), "--retrain.learning_rate", "3e-2")


@pytest.mark.trains
def test_what_is_left_is_the_best_approximation_above_one_threshold(
    run_all: Callable[..., RunFolder],
    model_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def deltas(model: Any) -> dict[str, Tensor]:
        layers: Any = lora_layers(model)
        return {
            name: layer.get_delta_weight("default").detach().double()
            for name, layer in layers.items()
        }

    def cut(lora: Lora, *arguments: Any) -> Any:
        found.append(deltas(lora.model))
        return original(lora, *arguments)

    found = []
    original = para.cut_to
    monkeypatch.setattr(para, "cut_to", cut)
    folder = run_all(*CUT, *WIDE, "--retrain.scale", "rslora")
    record = ranks.load(folder.ranks)
    result = read_json(folder.metrics)
    (trained,) = found
    # Plain PEFT loads what is left, also where the exported scale is another.
    base = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"), num_labels=2)
    model = PeftModel.from_pretrained(base, folder.adapter)
    left = deltas(model)
    assert {name: layer.r["default"] for name, layer in lora_layers(model).items()} == record.kept
    sizes = {name: 96 if "intermediate" in name else SIZE for name in record.ranks}
    kept = []
    dropped = []
    for name, rank in record.ranks.items():
        u, s, vt = torch.linalg.svd(trained[name], full_matrices=False)
        if rank:
            torch.testing.assert_close(
                left[name], u[:, :rank] * s[:rank] @ vt[:rank], rtol=1e-4, atol=1e-6
            )
        kept += s[:rank].tolist()
        dropped += [(value, sizes[name]) for value in s[rank:K].tolist()]
    assert min(kept) > max(value for value, _ in dropped)
    budget = int(BUDGET * sum(sizes.values()))
    assert budget - max(dropped)[1] < result["lora_parameters"] <= budget
    assert len(set(record.ranks.values())) > 1
    assert record.rule == "para"
    assert result["trainable_parameters"] == K * sum(sizes.values()) + HEAD, "what was trained"


def test_one_threshold_goes_by_value_and_ends_at_the_first_component_without_room() -> None:
    values = torch.tensor([[9.0, 4.0, 1.0], [8.0, 7.0, 0.5]])
    found = para.above_one_threshold
    assert found(values, [10, 30], 70).tolist() == [[True, False, False], [True, True, False]]
    assert found(values, [10, 30], 69).tolist() == [[True, False, False], [True, False, False]]
    assert found(values, [10, 30], 120).all()
    equal = found(torch.zeros(2, 2), [1, 1], 3)
    assert equal.tolist() == [[True, True], [True, False]], "of equal ones the first layer's"
