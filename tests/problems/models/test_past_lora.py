"""A layer whose weight the model reads itself gets no LoRA; every layer that gets LoRA has a gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    JambaConfig,
    JambaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from autolora.configs.errors import UserError
from autolora.configs.section import ALL_LINEAR
from autolora.configs.training import LoraSettings
from autolora.problems.models.attach import attach_components, lora_layers
from autolora.problems.models.layers import lora_layers_of, target_layers
from autolora.problems.models.past_lora import reader_past_lora

SMALL = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8}
PLACES = {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 10, "expert_layer_offset": 9}
MODELS: dict[str, Callable[[], Any]] = {
    "mamba": lambda: MambaForCausalLM(MambaConfig(**SMALL, state_size=4)),
    "falcon_mamba": lambda: FalconMambaForCausalLM(FalconMambaConfig(**SMALL, state_size=4)),
    "jamba": lambda: JambaForCausalLM(
        JambaConfig(**SMALL, **HEADS, **PLACES, mamba_d_state=4, use_mamba_kernels=False)
    ),
}
NEVER = {"mamba": {"x_proj", "dt_proj", "out_proj"}, "jamba": {"dt_proj"}}


@pytest.mark.parametrize("kind", MODELS)
def test_every_layer_of_all_linear_learns(kind: str) -> None:
    """LoRA on dt_proj got no gradient, and the threshold then gave it the rank k."""
    settings = LoraSettings(target_modules="all-linear", k=1)
    model = attach_components(MODELS[kind](), settings, TaskType.CAUSAL_LM, []).train()
    layers: dict[str, Any] = dict(lora_layers(model))
    assert any(name.endswith("in_proj") for name in layers)
    for layer in layers.values():
        nn.init.normal_(layer.lora_B["default"].weight)
    ids = torch.arange(16).view(2, 8)
    model(input_ids=ids, labels=ids).loss.backward()
    assert [name for name, layer in layers.items() if layer.lora_B["default"].weight.grad is None] == []


@pytest.mark.parametrize("kind", MODELS)
def test_what_such_a_model_reads_is_refused(kind: str) -> None:
    model = MODELS[kind]()
    for name in NEVER.get(kind, NEVER["mamba"]):
        with pytest.raises(UserError, match=rf"\.{name} is not allowed, as a model of type {kind} reads its weight"):
            attach_components(model, LoraSettings(target_modules=[name], k=1), TaskType.CAUSAL_LM, [])


def test_what_a_mamba_reads_past_lora_is_refused() -> None:
    """PEFT refuses it, by a traceback."""
    model = MambaForCausalLM(MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, state_size=4))
    with pytest.raises(UserError) as caught:
        attach_components(model, LoraSettings(target_modules=["in_proj", "out_proj"], k=2), TaskType.CAUSAL_LM, [])
    assert str(caught.value) == (
        "--lora.target_modules: backbone.layers.0.mixer.out_proj is not allowed, as a model of type mamba reads its "
        "weight directly, without LoRA; allowed: in_proj"
    )
    taken = LoraSettings(target_modules=["in_proj"], k=2)
    assert isinstance(attach_components(model, taken, TaskType.CAUSAL_LM, []), PeftModel)


def test_all_linear_leaves_out_what_a_mamba_reads_past_lora() -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, state_size=4))
    settings = LoraSettings(target_modules="all-linear", k=1)
    assert lora_layers_of(model, settings) == ["backbone.layers.0.mixer.in_proj"]
    assert isinstance(attach_components(model, settings, TaskType.CAUSAL_LM, []), PeftModel)


def test_what_torchs_attention_reads_past_lora_is_refused() -> None:
    """LoRA on it got no gradient, and the threshold then gave it the rank k."""
    block: Any = nn.TransformerEncoderLayer(8, 2, 16)
    model: Any = nn.Module()
    model.blocks = nn.ModuleList([block])
    assert target_layers(model, [ALL_LINEAR]) == ["blocks.0.linear1", "blocks.0.linear2"]
    with pytest.raises(UserError) as caught:
        attach_components(model, LoraSettings(target_modules=["out_proj"], k=2), None, [])
    assert str(caught.value) == (
        "--lora.target_modules: blocks.0.self_attn.out_proj is not allowed, as nn.MultiheadAttention reads its weight "
        "directly, without LoRA; allowed: linear1, linear2"
    )


def stacked(**options: Any) -> Any:
    """Two of torch's encoder layers and an output layer."""
    torch.manual_seed(0)
    layers = [nn.TransformerEncoderLayer(8, **{"nhead": 2, "dim_feedforward": 16, **options}) for _ in range(2)]
    model: Any = nn.Sequential(*layers, nn.Linear(8, 3))
    return model.eval()


def lora_acts(model: nn.Module, target: str) -> bool:
    """Whether, in evaluation, LoRA on the layers of this name changes what the model computes."""
    inputs = torch.randn(3, 5, 8)
    with torch.no_grad():
        before = model(inputs)
        adapted: Any = get_peft_model(model, LoraConfig(target_modules=[target], init_lora_weights=False)).eval()
        return not torch.allclose(adapted.base_model.model(inputs), before, atol=1e-5)


@pytest.mark.parametrize("target", ["linear1", "linear2"])
@pytest.mark.parametrize(
    ("options", "acts"),
    [
        ({"batch_first": True}, False),
        ({"batch_first": True, "activation": "gelu", "norm_first": True}, False),
        ({}, True),
        ({"batch_first": True, "activation": nn.functional.silu}, True),
        ({"batch_first": True, "bias": False}, True),
        ({"batch_first": True, "nhead": 1}, True),
    ],
)
def test_a_layer_is_refused_just_where_torchs_fast_path_reads_past_its_lora(
    options: dict[str, Any], acts: bool, target: str
) -> None:
    """Such an adapter acted in training alone: what it had learned did nothing afterwards."""
    assert (reader_past_lora(stacked(**options), f"1.{target}") is None) is acts
    assert lora_acts(stacked(**options), target) is acts


def test_what_the_fast_path_reads_is_neither_taken_nor_recommended() -> None:
    model = stacked(batch_first=True)
    for target, reader in (
        ("linear1", "nn.TransformerEncoderLayer in evaluation"), ("out_proj", "nn.MultiheadAttention"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=rf"{target} is not allowed, as {reader} reads its .*; allowed: 2$"):
            attach_components(model, LoraSettings(target_modules=[target], k=2), None, [])
    bare: Any = nn.Module()
    bare.blocks = nn.ModuleList(model[:2])
    with pytest.raises(UserError, match=r"linear2 is not allowed, .*; allowed: no layer of this model$"):
        attach_components(bare, LoraSettings(target_modules=["linear2"], k=2), None, [])
    why = r"\(nn\.MultiheadAttention reads the weight of blocks\.0\.self_attn\.out_proj directly, without LoRA\)"
    with pytest.raises(UserError, match=rf"no linear layer in the blocks of Module {why}; there are: none$"):
        target_layers(bare, [ALL_LINEAR])
