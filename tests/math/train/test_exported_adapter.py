"""The adapter in other hands: plain PEFT gives the run's own logits, for four families of models."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file

from autolora.engine.cut.cut import lora_pair
from autolora.engine.export.adapter import save_adapter
from autolora.problems.models.attach import attach
from tests.helpers.chat_toys import run_card
from tests.helpers.exports import LORA_ALPHA, RANKS, Exported, K
from tests.helpers.generation_toys import make_causal, make_tokenizer


@pytest.mark.trains
def test_plain_peft_gives_the_runs_own_logits_head_included(exported: Exported) -> None:
    model = PeftModel.from_pretrained(exported.plain_base(), exported.folder.adapter)
    assert torch.equal(exported.logits_of(model), exported.logits)
    assert exported.logits.std() > 1e-3
    untrained = PeftModel.from_pretrained(exported.plain_base(), exported.folder.adapter)
    for name, parameter in untrained.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
    assert not torch.allclose(exported.logits_of(untrained), exported.logits, atol=1e-4), "LoRA does something"


@pytest.mark.trains
def test_adapter_config_says_rank_and_scale_of_every_layer(exported: Exported) -> None:
    config = json.loads((exported.folder.adapter / "adapter_config.json").read_text())
    kept = {name: rank for name, rank in RANKS[exported.kind].items() if rank > 0}
    assert config["peft_type"] == "LORA"
    assert config["target_modules"] == sorted(kept), "in an order that does not differ from process to process"
    for name, rank in kept.items():
        assert config["rank_pattern"].get(name, config["r"]) == rank
        scale = config["alpha_pattern"].get(name, config["lora_alpha"]) / rank
        mean = sum(kept.values()) / len(kept)
        divisor = {"component": K, "fixed": rank, "rslora": rank**0.5, "mean_rank": (K * mean) ** 0.5}[exported.scale]
        assert scale == pytest.approx(LORA_ALPHA / divisor)
    weights = load_file(exported.folder.adapter / "adapter_model.safetensors")
    assert {name.split(".lora_")[0].removeprefix("base_model.model.") for name in weights if ".lora_" in name} == set(
        kept
    )


@pytest.mark.trains
def test_the_lines_of_the_card_give_the_runs_own_logits(exported: Exported) -> None:
    names = run_card(exported.folder.adapter)
    assert torch.equal(exported.logits_of(names["model"]), exported.logits)


def test_lora_on_the_output_embedding_stores_no_frozen_weight(tmp_path: Path) -> None:
    """PEFT's default adds it to the file, and servers then take it for a module that was trained whole."""
    tokenizer = make_tokenizer("<s>")
    model = attach(
        make_causal("llama", len(tokenizer)),
        LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM", init_lora_weights=False),
    )
    save_adapter(model, tokenizer, tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.lm_head.lora_A.weight" in names
    assert all(lora_pair(name) for name in names)


@pytest.mark.parametrize("whole", ["embed_tokens", "lm_head"])
def test_an_embedding_that_is_trained_whole_is_stored(tmp_path: Path, whole: str) -> None:
    tokenizer = make_tokenizer("<s>")
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=[whole], task_type="CAUSAL_LM")
    save_adapter(attach(make_causal("llama", len(tokenizer)), config), tokenizer, tmp_path)
    assert any(name.endswith(f"{whole}.weight") for name in load_file(tmp_path / "adapter_model.safetensors"))
