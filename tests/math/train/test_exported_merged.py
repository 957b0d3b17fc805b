"""Merged weights of a base whose output layer shares the weight of its embedding."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from autolora.engine.export.adapter import save_adapter, save_merged
from autolora.problems.models.attach import attach
from tests.helpers.generation_toys import make_causal, make_tokenizer


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_merging_an_output_layer_leaves_the_embedding_that_shares_its_weight(kind: str, tmp_path: Path) -> None:
    tokenizer = make_tokenizer("<s>" if kind == "llama" else "<|endoftext|>")
    settings = make_causal(kind, len(tokenizer)).config
    settings.tie_word_embeddings = True
    base = AutoModelForCausalLM.from_config(settings)
    base.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = attach(base, LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM", init_lora_weights=False))
    embedding = base.get_input_embeddings().weight
    assert base.lm_head.base_layer.weight is embedding
    before, ids = embedding.detach().clone(), torch.tensor([[3, 9, 40, 41]])
    with torch.no_grad():
        expected = model.eval()(ids).logits
    save_adapter(model, tokenizer, tmp_path / "adapter")
    save_merged(model, tokenizer, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert torch.equal(merged.get_input_embeddings().weight, before)
    assert not torch.equal(merged.lm_head.weight, before)
    assert not json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"]
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(plain.eval()(ids).logits, expected, rtol=1e-5, atol=1e-5)
