"""The padded adapter has one rank and one scale for the same layers of every block, and the run's own function."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file

from autolora.engine.export.adapter import save_adapter, save_padded
from autolora.problems.models.attach import attach
from tests.helpers.generation_toys import make_causal, make_tokenizer


def padded(folder: Path, kind: str, kept: dict[str, int], whole: list[str] | None = None) -> PeftModel:
    """A random model with random LoRA at these ranks; its adapter in folder/adapter, the padded one beside it."""
    tokenizer = make_tokenizer("<s>")
    model = attach(make_causal(kind, len(tokenizer)), LoraConfig(
        r=8, lora_alpha=12, target_modules=list(kept), rank_pattern=kept,  # type: ignore[arg-type]
        alpha_pattern={name: 1.5 * rank for name, rank in kept.items()},  # type: ignore[arg-type]
        task_type="CAUSAL_LM", init_lora_weights=False, modules_to_save=whole,
    ))  # fmt: skip
    save_adapter(model, tokenizer, folder / "adapter")
    save_padded(folder / "adapter", folder / "padded", model)
    return model


LLAMA = {"model.layers.0.self_attn.q_proj": 3, "model.layers.1.self_attn.v_proj": 1, "model.layers.1.mlp.up_proj": 2}


def test_layers_without_lora_get_zeros_so_that_every_kind_is_whole(tmp_path: Path) -> None:
    """TGI leaves out a kind of layer that is not there in every block."""
    model, ids = padded(tmp_path, "llama", LLAMA), torch.arange(12)[None]
    config = json.loads((tmp_path / "padded" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (3, 12)
    assert config["target_modules"] == ["q_proj", "up_proj", "v_proj"], "short names, which every server knows"
    assert "padded with zeros to rank 3" in (tmp_path / "padded" / "README.md").read_text()
    weights = load_file(tmp_path / "padded" / "adapter_model.safetensors")
    layers = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in weights}
    kinds = ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")
    assert layers == {f"model.layers.{block}.{kind}" for block in (0, 1) for kind in kinds}
    for layer in layers - set(LLAMA):
        assert not any(weights[f"base_model.model.{layer}.lora_{factor}.weight"].any() for factor in "AB")
    plain = make_causal("llama", model.config.vocab_size)
    again = PeftModel.from_pretrained(plain, tmp_path / "padded").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model.eval()(ids).logits, rtol=1e-5, atol=1e-5)
