"""Bases of fewer bits: what is measured of an adapter is what the same adapter has on a base in
fp32 with the dequantised weights, and the script's model stays bit for bit as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    TorchAoConfig,
)

from autolora.configs.errors import UserError
from autolora.engine.api.adapter import measure_adapter
from autolora.engine.api.learning import learn_ranks
from autolora.engine.measure.lora import Lora, call_with
from tests.helpers.bits import dequantised
from tests.helpers.untouched import left_as_it_was

pytestmark = pytest.mark.trains
RANK = 4
LORA = LoraConfig(r=RANK, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
# bitsandbytes packs only layers of 32 outputs or multiples, and of whole blocks of 64 inputs
WIDE = LlamaConfig(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.1,
    attention_bias=True,  # bitsandbytes casts biases where they lie
    tie_word_embeddings=False,
)
NEAR = {"fp16": 1e-3, "bf16": 5e-3, "nf4 in bf16": 5e-3, "int8": 5e-3}
"""How far slopes may lie from those in fp32; elsewhere they are the same to rounding. int8 of
bitsandbytes also rounds what enters a layer."""
EXACT = 1e-5
BASES = ("nf4", "nf4 twice", "nf4 in bf16", "int8", "torchao int8", "fp16", "bf16")


def options(kind: str) -> dict[str, Any]:
    """Those of from_pretrained."""
    if kind in ("fp16", "bf16"):
        return {"dtype": kind.replace("fp", "float").replace("bf", "bfloat")}
    if kind == "torchao int8":
        quantization = pytest.importorskip("torchao.quantization", reason="torchao is not here")
        settings: Any = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    elif kind == "int8":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=kind == "nf4 twice",
            bnb_4bit_compute_dtype="bfloat16" if kind == "nf4 in bf16" else "float32",
        )
    return {"dtype": torch.float32, "quantization_config": settings, "device_map": {"": "cpu"}}


def packing(model: Any) -> Any:
    """The model, whose weights in 4 bits are packed in the first pass in evaluation mode, also on
    processors where bitsandbytes would leave that."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = True
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in fp32."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("bits") / "model"
    LlamaForCausalLM(WIDE).save_pretrained(place)
    return place


def loaded(folder: Path, kind: str) -> Any:
    return packing(AutoModelForCausalLM.from_pretrained(folder, **options(kind)))


def adapted(model: Any) -> PeftModel:
    """The model with an adapter of numbers that do not depend on it."""
    found: Any = get_peft_model(model, LORA)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "lora_" in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=draw))
    return found


def batches() -> list[dict[str, Tensor]]:
    ids = torch.randint(64, (40, 9), generator=torch.Generator().manual_seed(2))
    return [
        {"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows}
        for rows in ids.split(8)
    ]


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=batches()[0]["input_ids"]).logits.float()
    return found


def far(found: Tensor, wanted: Tensor) -> float:
    """One minus the cosine of two arrays of numbers."""
    return 1 - float(cosine_similarity(found.double().flatten(), wanted.double().flatten(), dim=0))


@pytest.mark.parametrize("kind", BASES)
def test_slopes_are_those_of_the_dequantised_base_and_the_model_stays_as_it_was(
    folder: Path, kind: str, tmp_path: Path
) -> None:
    base = loaded(folder, kind)
    plain = adapted(dequantised(base))
    model = adapted(loaded(folder, kind)).train()
    numbers = torch.get_rng_state()
    with left_as_it_was(model):
        found = measure_adapter(model, batches())
    assert torch.equal(torch.get_rng_state(), numbers)
    wanted = measure_adapter(plain, batches())
    near = NEAR.get(kind, EXACT)
    assert found.evidence.gain == pytest.approx(wanted.evidence.gain, abs=near)
    assert far(found.moments.slopes, wanted.moments.slopes) < near
    assert far(found.moments.inputs, wanted.moments.inputs) < max(near, 1e-2)
    shares = [torch.tensor([x.layer_share for x in each.record.layers]) for each in (found, wanted)]
    assert far(*shares) < near

    found.save(tmp_path / "full", rank=RANK)
    again = PeftModel.from_pretrained(base, tmp_path / "full")  # in training mode: not packed
    lora = Lora(model)
    whole = logits(model)
    rounding = 2e-2 if kind in NEAR else 1e-5
    torch.testing.assert_close(call_with(model, lora.overrides(lora.whole), logits, model), whole)
    torch.testing.assert_close(logits(again.train()), whole, rtol=0, atol=rounding)


def test_a_search_leaves_a_model_in_4_bits_as_it_was(folder: Path) -> None:
    model = loaded(folder, "nf4 twice")
    rows = [
        {name: value[row] for name, value in batch.items()}
        for batch in batches()
        for row in range(8)
    ]

    def collate(some: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([row[name] for row in some]) for name in some[0]}

    search = {"steps": 4, "batch_size": 4}
    with left_as_it_was(model):
        learn_ranks(
            model, rows, LORA, collate=collate, search=search, precision="fp32", measure={"rows": 8}
        )


def test_packed_weights_are_refused(folder: Path) -> None:
    """No slope flows through them."""
    functional = pytest.importorskip("bitsandbytes.functional")
    if not functional.has_avx512bf16():
        pytest.skip("this processor has no AVX512-BF16, so that bitsandbytes cannot pack")
    model = adapted(loaded(folder, "nf4")).eval()
    logits(model)
    with left_as_it_was(model), pytest.raises(UserError, match="packed"):
        measure_adapter(model, batches())
