"""Each kind of LoRA as overrides: what gates, magnitudes and biases do to the loss."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from autolora.engine.measure.likelihood import Categorical
from autolora.engine.measure.lora import Cut, Lora, call_with
from autolora.engine.measure.passes import Loaded, Passes
from autolora.engine.measure.shares import integrate, slopes_at
from autolora.problems.machine.compute import Compute
from autolora.problems.rows import Rows
from tests.helpers.untouched import left_as_it_was

pytestmark = pytest.mark.trains
SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,  # so that the loss depends on the weights by more than rounding
}
KINDS: dict[str, dict[str, Any]] = {
    "linear": {"target_modules": ["q_proj", "down_proj"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "dora": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "dora on embedding": {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True},
    "biases": {"target_modules": ["q_proj"], "bias": "all"},
    "bias of lora": {"target_modules": ["q_proj", "down_proj"], "lora_bias": True},
    "experts": {
        "target_modules": ["q_proj"],
        "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "gate.weight"],
    },
}
TOKENS = torch.randint(40, (12, 7), generator=torch.Generator().manual_seed(0))


def lora_of(kind: str) -> Lora:
    """A tiny random model with a random adapter of this kind; of biases, those before are zero."""
    torch.manual_seed(0)
    base: Any
    if kind == "experts":
        # all experts of each token, as the choice of some has no slope
        experts = {"num_local_experts": 3, "num_experts_per_tok": 3}
        base = MixtralForCausalLM(MixtralConfig(**SMALL, **experts))
    else:
        # PEFT keeps no grouped product of experts in float64
        base = LlamaForCausalLM(LlamaConfig(**SMALL, attention_bias=True)).double()
    model: Any = get_peft_model(base, LoraConfig(r=3, task_type="CAUSAL_LM", **KINDS[kind]))
    off = {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "magnitude" in name:
                weight.mul_(1 + torch.rand_like(weight))
            elif weight.requires_grad:
                if name.endswith("_proj.bias") or name.endswith("base_layer.bias"):
                    off[name] = weight.clone()
                weight.normal_(std=0.4)
    return Lora(model, off=off)


def passes() -> Passes:
    rows = [{"input_ids": ids, "labels": ids} for ids in TOKENS]

    def collate(some: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([row[name] for row in some]) for name in some[0]}

    compute = Compute(torch.device("cpu"), bf16=False)
    return Passes(Rows.of_script(rows, collate, by_text=True), Categorical(shifted=True), compute)


def loss(lora: Lora, cut: Cut) -> float:
    """The summed loss of all rows, by the model itself."""

    def summed() -> Tensor:
        logits = lora.model(input_ids=TOKENS).logits[:, :-1].double()
        return cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="sum")

    with torch.no_grad():
        return float(call_with(lora.model.eval(), lora.overrides(cut), summed))


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_of_the_loss_also_where_a_norm_or_a_bias_moves(kind: str) -> None:
    """PEFT holds the norm of DoRA constant when it differentiates."""
    lora = lora_of(kind)
    loaded = Loaded(0, list(range(12)), {"input_ids": TOKENS}, TOKENS)
    by_gates, by_ungated, labels = slopes_at(lora, passes(), loaded, 1.0, 0.6)
    assert labels == 12 * 6
    step = 3e-3  # norms are computed in fp32, whose rounding a smaller step would show
    near = {"rel": 1e-2, "abs": 1e-2}
    for layer in range(len(lora.layers)):
        ends = []
        for sign in (1, -1):
            gates = torch.full((len(lora.layers), lora.k), 0.6, dtype=torch.float64)
            gates[layer, 1] += sign * step
            ends.append(loss(lora, Cut(gates, ungated=0.6)))
        expected = (ends[0] - ends[1]) / (2 * step)
        assert float(by_gates[layer, 1]) == pytest.approx(expected, **near), lora.names[layer]
    gates = torch.full((len(lora.layers), lora.k), 0.6, dtype=torch.float64)
    first, last = (loss(lora, Cut(gates, ungated=0.6 + sign * step)) for sign in (1, -1))
    assert by_ungated == pytest.approx((first - last) / (2 * step), **near)
    assert (by_ungated != 0) == (kind not in ("linear", "embedding", "experts"))


@pytest.mark.parametrize("kind", KINDS)
def test_all_shares_add_up_to_the_fall_from_the_base_to_the_whole(kind: str) -> None:
    lora = lora_of(kind)
    model = lora.model
    with torch.no_grad():
        whole = float(model.eval()(input_ids=TOKENS, labels=TOKENS).loss)
    off = loss(lora, lora.nothing) / 72
    if kind != "biases":
        with torch.no_grad(), model.disable_adapter():
            assert off == pytest.approx(
                float(model(input_ids=TOKENS, labels=TOKENS).loss), rel=1e-6
            )
    with left_as_it_was(model):
        shares = integrate(lora, passes(), np.zeros(12, dtype=int), 1.0, 12, 48)
    assert loss(lora, lora.whole) / 72 == pytest.approx(whole, rel=1e-6)
    assert shares.total() == pytest.approx(off - whole, rel=1e-2, abs=1e-3)
