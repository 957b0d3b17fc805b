"""Which layers, and parts of GPT-2's fused one, the targets mean; what they cannot mean is one
line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import TaskType
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    ConvBertConfig,
    ConvBertModel,
    GPT2Config,
    GPT2Model,
    MixtralConfig,
    MixtralModel,
    PhimoeConfig,
    PhimoeForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeModel,
)

from autolora.configs.errors import UserError
from autolora.configs.section import ALL_LINEAR
from autolora.configs.training import LoraSettings
from autolora.problems.models.attach import attach_components
from autolora.problems.models.layers import layer_shapes, lora_layers_of, target_layers
from tests.helpers.tiny import LAYERS

EXPERTS = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 8,
    "num_local_experts": 2,
}


def test_a_target_is_an_ending_or_a_full_name() -> None:
    gpt2 = GPT2Model(
        GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2, add_cross_attention=True)
    )
    assert target_layers(gpt2, ["h.1.mlp.c_fc"]) == ["h.1.mlp.c_fc"]
    whole = [f"h.{i}.{kind}.c_attn" for i in (0, 1) for kind in ("attn", "crossattention")]
    assert target_layers(gpt2, ["c_attn"]) == whole


def test_what_is_no_matrix_is_no_target() -> None:
    """PEFT takes a convolution, whose components the gates would scale along the wrong axis."""
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    model = ConvBertModel(ConvBertConfig(vocab_size=20, embedding_size=8, head_ratio=1, **sizes))
    said = r"^--lora\.target_modules: word_embeddings, depthwise matches no linear layer"
    with pytest.raises(UserError, match=said):
        target_layers(model, ["query", "word_embeddings", "depthwise"])
    assert not any("key_conv" in name for name in layer_shapes(model))


BERT = (
    "attention.self.query attention.self.key attention.self.value attention.output.dense "
    "intermediate.dense"
)
BLOCK = {
    "bert": [f"bert.encoder.layer.{{}}.{name}" for name in (*BERT.split(), "output.dense")],
    "gpt2": [
        f"transformer.h.{{}}.{name}"
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ],
    "llama": [
        f"model.layers.{{}}.{name}_proj"
        for name in (
            "self_attn.q",
            "self_attn.k",
            "self_attn.v",
            "self_attn.o",
            "mlp.gate",
            "mlp.up",
            "mlp.down",
        )
    ],
}


@pytest.mark.parametrize("kind", BLOCK)
def test_all_linear_is_every_matrix_of_every_block_and_nothing_else(
    model_folder: Callable[..., Path], kind: str
) -> None:
    """No pooler, no head, no output embedding; GPT-2's c_attn as one layer."""
    expected = [name.format(block) for block in range(LAYERS) for name in BLOCK[kind]]
    classifier = AutoModelForSequenceClassification.from_pretrained(model_folder(kind))
    assert target_layers(classifier, [ALL_LINEAR]) == expected
    assert lora_layers_of(classifier, LoraSettings(target_modules="all-linear")) == expected
    if kind in ("gpt2", "llama"):
        causal = AutoModelForCausalLM.from_pretrained(model_folder(kind))
        assert "lm_head" in layer_shapes(causal)
        assert target_layers(causal, [ALL_LINEAR]) == expected


def test_all_linear_leaves_out_what_is_trained_whole(model_folder: Callable[..., Path]) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(model_folder("bert"))
    settings = LoraSettings(
        target_modules="all-linear", modules_to_save=["layer.0.attention", "intermediate"]
    )
    assert lora_layers_of(model, settings) == [
        f"bert.encoder.layer.{name}"
        for name in (
            "0.output.dense",
            *(f"1.{part}" for part in (*BERT.split()[:-1], "output.dense")),
        )
    ]


def test_a_router_gets_no_lora_whether_it_has_a_matrix_or_is_a_kind_of_linear_layer() -> None:
    """It returns several tensors, on which PEFT's layer died."""
    mixtral = MixtralModel(MixtralConfig(**EXPERTS))
    assert target_layers(mixtral, [ALL_LINEAR]) == [f"layers.0.self_attn.{x}_proj" for x in "qkvo"]
    with pytest.raises(UserError, match=r"gate matches no linear layer"):
        target_layers(mixtral, ["gate"])
    model: Any = PhimoeForCausalLM(PhimoeConfig(**EXPERTS))
    settings = LoraSettings(target_modules="all-linear", k=2)
    found = lora_layers_of(model, settings)
    assert any(name.endswith("q_proj") for name in found)
    assert not any("router" in name for name in found)
    with pytest.raises(UserError, match=r"^--lora\.target_modules: router matches no linear layer"):
        target_layers(model, ["router"])
    ids = torch.arange(8).view(1, 8)
    attach_components(model, settings, TaskType.CAUSAL_LM, [])(
        input_ids=ids, labels=ids
    ).loss.backward()


def test_all_linear_leaves_out_the_gate_of_a_shared_expert() -> None:
    """It has one output, so that every k above 1 was refused."""
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "moe_intermediate_size": 8,
    }
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "shared_expert_intermediate_size": 8}
    model = Qwen2MoeModel(Qwen2MoeConfig(vocab_size=20, num_key_value_heads=1, **sizes, **experts))
    found = target_layers(model, [ALL_LINEAR])
    assert "layers.0.mlp.shared_expert.up_proj" in found
    assert not any(name.endswith("shared_expert_gate") for name in found)
