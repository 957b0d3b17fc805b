"""GPT-2's c_attn as three layers: the same model, and an adapter of the stock model that computes
the same."""

import copy
from typing import Any

import pytest
import torch
from peft import (
    LoraConfig,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from transformers import GPT2Config, GPT2Model, GPTBigCodeConfig, GPTBigCodeModel

from autolora.configs.errors import UserError
from autolora.problems.models.attach import ADAPTER, attach, lora_layers
from autolora.problems.models.fused import is_split, joined, split
from autolora.problems.models.layers import layer_shapes, target_layers
from autolora.problems.models.names import joined_ranks

SMALL: dict[str, Any] = {
    "vocab_size": 30,
    "n_positions": 16,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
}
IDS = torch.arange(14).view(2, 7)


@pytest.fixture
def gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2Model(GPT2Config(**SMALL, add_cross_attention=True)).eval()


def test_split_where_a_part_is_named_and_bit_for_bit_the_same(gpt2: Any) -> None:
    expected = gpt2(IDS).last_hidden_state
    state = torch.get_rng_state()
    split(gpt2, ["h.0.attn.c_attn.v", "c_fc"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(gpt2(IDS).last_hidden_state, expected)
    shapes = layer_shapes(gpt2)
    assert [n for n in shapes if "c_attn" in n and "cross" not in n] == [
        *(f"h.0.attn.c_attn.{part}" for part in "qkv"),
        "h.1.attn.c_attn",
    ]
    assert shapes["h.0.attn.c_attn.q"] == (16, 16)


def test_layers_of_other_kinds_have_no_parts(gpt2: Any) -> None:
    split(gpt2, ["crossattention.c_attn.q"])
    bigcode = GPTBigCodeModel(GPTBigCodeConfig(**SMALL, multi_query=False))
    split(bigcode, ["c_attn.q"])
    assert not is_split(gpt2)
    with pytest.raises(UserError, match=r"c_attn\.q matches no linear layer"):
        target_layers(bigcode, ["c_attn.q"])


@pytest.mark.parametrize(
    "alphas", [{"h.1.attn.c_attn.v": 6.0}, {}], ids=["one scale", "a scale by rank"]
)
def test_the_joined_adapter_computes_the_same_on_the_stock_model(
    gpt2: Any, alphas: dict[str, float]
) -> None:
    stock = copy.deepcopy(gpt2)
    ranks = {f"h.{i}.attn.c_attn.{part}": 2 for i in (0, 1) for part in "qv"}
    ranks |= {"h.1.attn.c_attn.v": 3, "h.1.mlp.c_fc": 1}
    split(gpt2, ranks)
    plain: dict[str, Any] = {"r": 2, "lora_alpha": 4, "task_type": TaskType.FEATURE_EXTRACTION}
    config = LoraConfig(
        **plain, target_modules=list(ranks), rank_pattern=ranks, alpha_pattern=alphas
    )
    model = attach(gpt2, config)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B[ADAPTER].weight, std=0.3)  # type: ignore[arg-type]
    expected = model(IDS).last_hidden_state
    whole = joined_ranks(ranks)
    assert whole == {"h.0.attn.c_attn": 4, "h.1.attn.c_attn": 5, "h.1.mlp.c_fc": 1}
    fields: dict[str, Any] = {
        **plain,
        "target_modules": list(whole),
        "rank_pattern": whole,
        "fan_in_fan_out": True,
    }
    weights = get_peft_model_state_dict(joined(model, LoraConfig(**fields)))
    b = weights["base_model.model.h.1.attn.c_attn.lora_B.weight"]
    assert not b[16:32].any()
    assert not b[:16, 2:].any()
    loaded = get_peft_model(stock, LoraConfig(**fields))
    set_peft_model_state_dict(loaded, weights)
    torch.testing.assert_close(loaded(IDS).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
