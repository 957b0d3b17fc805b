"""The adapter in other hands: plain PEFT gives the run's own logits, also of its merged and its
padded form."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from autolora.configs.schema import RunConfig
from autolora.configs.training import ModelConfig
from autolora.engine import ranks
from autolora.engine.export import adapter
from autolora.engine.export.adapter import save_adapter, save_merged, save_padded
from autolora.engine.export.lora_config import (
    alpha_of,
    config_for_trainers,
    save_lora_config,
    stock_config,
)
from autolora.engine.measure.cut import lora_pair
from autolora.problems.models.attach import attach, lora_layers
from tests.contract.readers import batch_of, loaded, logits_of
from tests.helpers.chat_toys import run_card
from tests.helpers.generation_toys import make_causal, make_tokenizer
from tests.helpers.methods import scales_of
from tests.helpers.retraining import retrain, with_ranks

# None, less than k, more than k; a layer that the search's targets do not name.
RANKS = {
    "roberta": {
        "roberta.encoder.layer.0.attention.self.query": 2,
        "roberta.encoder.layer.1.attention.self.query": 0,
        "roberta.encoder.layer.1.attention.self.value": 5,
    },
    "gpt2": {
        "transformer.h.0.attn.c_attn": 3,
        "transformer.h.1.attn.c_attn": 0,
        "transformer.h.1.mlp.c_fc": 5,
    },
}


@pytest.mark.trains
@pytest.mark.parametrize(("kind", "scale"), [("roberta", "rslora"), ("gpt2", "component")])
def test_plain_peft_gives_the_runs_own_logits_head_included(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, kind: str, scale: str
) -> None:
    """After a retraining at ranks of every kind, on a pinned base, which the adapter names."""
    arguments = ("--retrain.scale", scale, "--retrain.learning_rate", "3e-2")
    pinned = ("--model.revision", "v1")
    config, folder = with_ranks(tiny_config(*arguments, *pinned, kind=kind), RANKS[kind])
    batch = batch_of(Path(config.model.name), "the film is dull .", "our room was not noisy .")
    found = list[torch.Tensor]()
    original = adapter.save_adapter

    def keep(model: Any, *arguments: Any) -> None:
        found.append(logits_of(model, batch))
        original(model, *arguments)

    monkeypatch.setattr(adapter, "save_adapter", keep)
    retrain(config)
    settings = json.loads((folder.adapter / "adapter_config.json").read_text())
    assert settings["revision"] == "v1"
    (logits,) = found
    model = loaded(folder.adapter)
    assert torch.equal(logits_of(model, batch), logits)
    assert torch.equal(logits_of(run_card(folder.adapter)["model"], batch), logits)
    assert logits.std() > 1e-3
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
    assert not torch.allclose(logits_of(model, batch), logits, atol=1e-4), "LoRA does something"


def random_lora(model: Any, **fields: Any) -> PeftModel:
    given = {"r": 2, "task_type": "CAUSAL_LM", "init_lora_weights": False}
    return attach(model, LoraConfig(**{**given, **fields}))


def test_lora_on_the_output_embedding_stores_no_frozen_weight(tmp_path: Path) -> None:
    """PEFT's default adds it to the file, and servers then take it for a module that was trained
    whole."""
    tokenizer = make_tokenizer("<s>")
    model = random_lora(make_causal("llama", len(tokenizer)), target_modules=["q_proj", "lm_head"])
    save_adapter(model, tokenizer, tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.lm_head.lora_A.weight" in names
    assert all(lora_pair(name) for name in names)


@pytest.mark.parametrize("whole", ["embed_tokens", "lm_head"])
def test_an_embedding_that_is_trained_whole_is_stored(tmp_path: Path, whole: str) -> None:
    tokenizer = make_tokenizer("<s>")
    model = random_lora(
        make_causal("llama", len(tokenizer)), target_modules=["q_proj"], modules_to_save=[whole]
    )
    save_adapter(model, tokenizer, tmp_path)
    assert any(
        name.endswith(f"{whole}.weight")
        for name in load_file(tmp_path / "adapter_model.safetensors")
    )


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_merging_an_output_layer_leaves_the_embedding_that_shares_its_weight(
    kind: str, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer("<s>" if kind == "llama" else "<|endoftext|>")
    settings = make_causal(kind, len(tokenizer)).config
    settings.tie_word_embeddings = True
    AutoModelForCausalLM.from_config(settings).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = random_lora(base, target_modules=["lm_head"])
    embedding = base.get_input_embeddings().weight
    assert base.lm_head.base_layer.weight is embedding
    before = embedding.detach().clone()
    ids = torch.tensor([[3, 9, 40, 41]])
    with torch.no_grad():
        expected = model.eval()(ids).logits
    save_adapter(model, tokenizer, tmp_path / "adapter")
    save_merged(model, tokenizer, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert torch.equal(merged.get_input_embeddings().weight, before)
    assert not torch.equal(merged.lm_head.weight, before)
    assert not json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"]
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    )
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(plain.eval()(ids).logits, expected, rtol=1e-5, atol=1e-5)


LLAMA = {
    "model.layers.0.self_attn.q_proj": 3,
    "model.layers.1.self_attn.v_proj": 1,
    "model.layers.1.mlp.up_proj": 2,
}


def test_padded_layers_without_lora_get_zeros_so_that_every_kind_is_whole(tmp_path: Path) -> None:
    """TGI leaves out a kind of layer that is not there in every block."""
    tokenizer = make_tokenizer("<s>")
    ids = torch.arange(12)[None]
    alphas = {n: 1.5 * r for n, r in LLAMA.items()}
    patterns: dict[str, Any] = {
        "rank_pattern": LLAMA,
        "alpha_pattern": alphas,
        "target_modules": list(LLAMA),
    }
    model = random_lora(make_causal("llama", len(tokenizer)), r=8, lora_alpha=12, **patterns)
    save_adapter(model, tokenizer, tmp_path / "adapter")
    save_padded(tmp_path / "adapter", tmp_path / "padded", model)
    config = json.loads((tmp_path / "padded" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (3, 12)
    assert config["target_modules"] == ["q_proj", "up_proj", "v_proj"], (
        "short names, which every server knows"
    )
    weights = load_file(tmp_path / "padded" / "adapter_model.safetensors")
    layers = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in weights}
    kinds = ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")
    assert layers == {f"model.layers.{block}.{kind}" for block in (0, 1) for kind in kinds}
    for layer in layers - set(LLAMA):
        assert not any(
            weights[f"base_model.model.{layer}.lora_{factor}.weight"].any() for factor in "AB"
        )
    again = PeftModel.from_pretrained(
        make_causal("llama", len(tokenizer)), tmp_path / "padded"
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            again(ids).logits, model.eval()(ids).logits, rtol=1e-5, atol=1e-5
        )


def record_of(kept: dict[str, int], scale: str) -> ranks.RankRecord:
    """Ranks of k = 8, with lora_alpha 16."""
    layers = tuple(ranks.LayerRank(name, rank) for name, rank in kept.items())
    return ranks.RankRecord(8, layers, lora_alpha=16.0, scale=scale)


def test_the_scale_of_a_layer_follows_from_its_rank() -> None:
    """As the scale that PEFT makes of its lora_alpha: lora_alpha / rank; here at a mean rank of
    2."""
    for rank in (1, 3, 8):
        found = {
            scale: alpha_of(16.0, scale, rank, 8, 2.0) / rank
            for scale in ("component", "fixed", "rslora", "mean_rank")
        }
        expected = {
            "component": 2,
            "fixed": 16 / rank,
            "rslora": 16 / math.sqrt(rank),
            "mean_rank": 4,
        }
        assert found == pytest.approx(expected, rel=1e-12)
    for scale in ("mean_rank", "component", "fixed"):
        assert alpha_of(16.0, scale, 8, 8, 8) / 8 == 16 / 8, (
            "that of the search where every rank is k"
        )
    assert [repr(alpha_of(16.0, "component", rank, 8, 2.0)) for rank in (4, 3)] == ["8", "6"], (
        "some read no float"
    )


def test_parts_of_a_layer_share_its_alpha() -> None:
    kept = {"h.0.c_attn.q": 3, "h.0.c_attn.v": 1, "h.0.c_fc": 2, "h.1.c_fc": 0}
    found = {
        scale: stock_config(LoraConfig(), record_of(kept, scale)).alpha_pattern
        for scale in ("component", "mean_rank", "fixed")
    }
    assert found["component"] == {"h.0.c_attn": 8, "h.0.c_fc": 4}
    assert found["mean_rank"] == {"h.0.c_attn": 16, "h.0.c_fc": 8}, "the mean is that of parts"
    assert found["fixed"] == {}


def test_the_scale_of_rslora_is_peft_s_own(tmp_path: Path) -> None:
    """In lora_config/ alpha_pattern holds it; PEFT's use_rslora computes the same of lora_alpha."""
    kept = {f"transformer.h.{i}.attn.c_attn": rank for i, rank in enumerate((2, 7))}
    settings = LoraConfig(task_type="CAUSAL_LM")
    record = record_of(kept, "rslora")
    save_lora_config(config_for_trainers(settings, record, ModelConfig()), tmp_path)
    mine = get_peft_model(make_causal("gpt2", 20), LoraConfig.from_pretrained(tmp_path))
    given: Any = {
        "r": 7,
        "lora_alpha": 16,
        "rank_pattern": kept,
        "target_modules": list(kept),
        "use_rslora": True,
    }
    theirs = get_peft_model(make_causal("gpt2", 20), LoraConfig(task_type="CAUSAL_LM", **given))
    assert {name: layer.r["default"] for name, layer in lora_layers(mine).items()} == kept
    assert scales_of(mine) == pytest.approx(scales_of(theirs), rel=1e-12)
