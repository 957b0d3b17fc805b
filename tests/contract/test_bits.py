"""Base models in 4 and 8 bits of bitsandbytes, on a CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.quantizers import quantizer_bnb_4bit

from tests.contract.conftest import Chat
from tests.contract.inputs import conversations, lines
from tests.contract.program import refused, succeed
from tests.contract.readers import adapter_weights, loaded, ranks_in, read
from tests.helpers.bits import dequantised

FOLDERS = {
    "nf4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "nf4 twice": BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    ),
    "int8": BitsAndBytesConfig(load_in_8bit=True),
}


@pytest.mark.parametrize("hypergradient", ["first_order", "darts"])
def test_ranks_are_searched_measured_and_trained_in_4_bits(
    chat: Chat, tmp_path: Path, hypergradient: str
) -> None:
    given = {"hypergradient__type": hypergradient, "export__merged": "true"}
    succeed(*chat(model__dtype="nf4", **given))
    run = tmp_path / "runs" / "tiny"
    assert read(run / "metrics.json")["machine"]["weights"] == "4 bits"
    assert read(run / "ranks.json")["rank_curve"]
    assert "quantization_config" not in read(run / "adapter" / "config.json")
    assert ranks_in(adapter_weights(run / "adapter"))
    loaded(run / "adapter")  # on the plain base


def test_without_the_package_one_line_names_it(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizer_bnb_4bit, "is_bitsandbytes_available", lambda: False)
    line = refused(*chat(model__dtype="nf4"))
    assert "pip install -U bitsandbytes" in line


def quantised(chat_model: Path, folder: Path, kind: str) -> Path:
    """base/: a wider model than `chat_model`, as bitsandbytes packs whole blocks of 64 inputs,
    quantised on disk; plain/: the same with the dequantised weights."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    wide = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.1,
    )
    LlamaForCausalLM(wide).save_pretrained(folder / "plain")
    whole = {"quantization_config": FOLDERS[kind], "device_map": {"": "cpu"}}
    model = AutoModelForCausalLM.from_pretrained(folder / "plain", dtype=torch.float32, **whole)
    model.save_pretrained(folder / "base")
    dequantised(model).save_pretrained(folder / "plain")
    for name in ("base", "plain"):
        tokenizer.save_pretrained(folder / name)
    return folder / "base"


@pytest.mark.parametrize("kind", FOLDERS)
def test_an_adapter_names_a_base_that_is_quantised_on_disk(
    chat_model: Path, tmp_path: Path, kind: str
) -> None:
    base = quantised(chat_model, tmp_path, kind)
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    data = lines(tmp_path / "rows.jsonl", conversations())
    given = ("--data", data, "--precision", "fp32", "--task.max_length", "160")
    found = {}
    for name in ("base", "plain"):
        out = tmp_path / f"measured-{name}"
        of_base = (*given, "--base", tmp_path / name) if name == "plain" else given
        succeed("measure", tmp_path / "adapter", *of_base, "--out", out)
        found[name] = read(out / "measure.json")
    near = {"abs": 2e-3 if kind == "int8" else 1e-5}
    for key in ("loss", "gain", "share_total"):
        assert found["base"][key] == pytest.approx(found["plain"][key], **near), key

    small = tmp_path / "small"
    made = ("--measured", tmp_path / "measured-base", "--test", data)
    said = succeed("cut", tmp_path / "adapter", small, "--rank", 2, *given, *made)
    assert "perplexity" in said
    assert set(ranks_in(adapter_weights(small)).values()) == {2}
    assert read(small / "adapter_config.json")["base_model_name_or_path"] == str(base)
