"""Numbers are learned with mean 0 and standard deviation 1, and predicted in the units of the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from autolora.problems.tasks.texts import LabelScale

SCALE = LabelScale(1000.0, 50.0)


def numbers(model_folder: Callable[..., Path], kind: str) -> Any:
    """A model with one output."""
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(model_folder(kind), num_labels=1).eval()


def with_lora(model: Any) -> Any:
    """The model with LoRA of rank 1, whose A has one output as the head has; its head is trained whole."""
    targets = ["c_attn"] if model.config.model_type == "gpt2" else ["query", "value"]
    return get_peft_model(model, LoraConfig(r=1, target_modules=targets, task_type="SEQ_CLS")).eval()


@pytest.mark.parametrize(("kind", "wrapped"), [("bert", True), ("roberta", True), ("bert", False)])
def test_a_head_with_a_bias_predicts_in_the_units_of_the_file(
    model_folder: Callable[..., Path], kind: str, wrapped: bool
) -> None:
    model = numbers(model_folder, kind)
    model = with_lora(model) if wrapped else model
    inputs = torch.arange(5, 11)[None]
    with torch.no_grad():
        before = model(inputs).logits
        assert SCALE.into_head(model)
        after = model(inputs).logits
    assert torch.allclose(after, before * 50 + 1000)
    assert not torch.allclose(after, before)


def test_a_head_without_a_bias_is_left_as_it_is(model_folder: Callable[..., Path]) -> None:
    model = with_lora(numbers(model_folder, "gpt2"))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    assert not SCALE.into_head(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
