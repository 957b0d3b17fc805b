"""adapter.gguf, read back tensor by tensor: what llama.cpp adds to the base is what PEFT adds to it."""

import importlib.util
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.engine.export.adapter import save_adapter
from autolora.engine.export.gguf import ARCHITECTURES, refuse_without_gguf, save_gguf
from autolora.problems.models.attach import attach
from autolora.problems.models.layers import layer_shapes
from autolora.problems.models.parts import split
from tests.helpers.generation_toys import make_tokenizer
from tests.helpers.gguf_toys import write_gguf

WIDE: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
    "tie_word_embeddings": False, "initializer_range": 0.3,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**WIDE), "mistral": MistralConfig(**WIDE), "qwen2": Qwen2Config(**WIDE),
    "qwen3": Qwen3Config(**WIDE), "gemma": GemmaConfig(**WIDE), "gemma2": Gemma2Config(**WIDE),
    "gemma3_text": Gemma3TextConfig(**WIDE), "phi3": Phi3Config(**WIDE),
    "gpt2": GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=160),
}  # fmt: skip
PERMUTED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}


def adapted(kind: str, folder: Path, *, scale: str = "component") -> PeftModel:
    """A random model with random LoRA of ranks 1 to 5 on all layers of its blocks, and its saved adapter."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(CONFIGS[kind])
    base.save_pretrained(folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base").eval()
    layers = [name for name in layer_shapes(base) if "." in name and split(name)[1] is None]
    kept = {name: 1 + i % 5 for i, name in enumerate(layers)}
    exponent = {"component": 1.0, "rslora": 0.5, "fixed": 0.0}[scale]
    alphas = {name: 1.5 * rank**exponent for name, rank in kept.items()} if exponent else {}
    model = attach(base, LoraConfig(
        r=5, lora_alpha=7.5, target_modules=list(kept), rank_pattern=kept, alpha_pattern=alphas,  # type: ignore[arg-type]
        task_type="CAUSAL_LM", init_lora_weights=False,
    ))  # fmt: skip
    save_adapter(model, make_tokenizer("<s>"), folder / "adapter")
    save_gguf(folder / "adapter", folder / "adapter.gguf", "mine")
    return model.eval()


def tensors(path: Path) -> dict[str, np.ndarray]:
    """Name -> tensor of a file, in the order of torch's dimensions."""
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def changes(path: Path) -> dict[str, torch.Tensor]:
    """Tensor of the base -> what llama.cpp adds to it: B A at lora_alpha over the rank of the pair."""
    found, alpha = tensors(path), fields(path)["adapter.lora.alpha"]
    made = {}
    for name in {name.removesuffix(".lora_a").removesuffix(".lora_b") for name in found}:
        a, b = (torch.from_numpy(found[f"{name}.lora_{factor}"]) for factor in "ab")
        made[name] = b @ a * (alpha / len(a))
    return made


def in_order(value: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of query or key as llama.cpp's Llama has them, one row at a time."""
    size = len(value) // heads
    rows = [head * size + half * (size // 2) + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return value[rows]


@pytest.mark.parametrize(
    ("kind", "scale"), [*((kind, "component") for kind in CONFIGS), ("llama", "fixed"), ("llama", "rslora")]
)
def test_every_layer_is_there_under_its_name_with_the_update_of_peft(kind: str, scale: str, tmp_path: Path) -> None:
    model = adapted(kind, tmp_path, scale=scale)
    base: Any = model.get_base_model()
    path = tmp_path / "adapter.gguf"
    names = gguf.get_tensor_name_map(
        next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == ARCHITECTURES[kind]), 2
    )
    found = changes(path)
    layers = {name: module for name, module in base.named_modules() if hasattr(module, "lora_A")}
    assert len(found) == len(layers) > 0
    for name, layer in layers.items():
        expected = layer.get_delta_weight("default").detach()
        expected = expected.T if kind == "gpt2" else expected  # Conv1D's weight lies the other way round
        inside = f"{names.get_name(name)}.weight"
        heads = PERMUTED.get(inside.split(".")[-2])
        if ARCHITECTURES[kind] == "llama" and heads:
            expected = in_order(expected, getattr(base.config, heads))
        torch.testing.assert_close(found[inside], expected, rtol=1e-5, atol=1e-6)
    told = fields(path)
    assert told["general.type"] == "adapter"
    assert told["general.architecture"] == ARCHITECTURES[kind]
    assert told["general.name"] == "mine"
    assert told["adapter.type"] == "lora"
    assert told["adapter.lora.alpha"] == 7.5
    plain = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {value.shape for value in tensors(path).values()} == {tuple(value.shape) for value in plain.values()}


def test_base_and_adapter_together_are_the_file_of_the_merged_model(tmp_path: Path) -> None:
    """The oracle for Llama: a writer of base files that this test does not share with the program."""
    model, tokenizer = adapted("llama", tmp_path), make_tokenizer("<s>")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    write_gguf(tmp_path / "base.gguf", plain, tokenizer, quantised=False)
    merged: Any = model.merge_and_unload()
    write_gguf(tmp_path / "merged.gguf", merged, tokenizer, quantised=False)
    base, expected, change = (tensors(tmp_path / "base.gguf"), tensors(tmp_path / "merged.gguf"),
                              changes(tmp_path / "adapter.gguf"))  # fmt: skip
    assert change.keys() <= base.keys()
    for name, value in base.items():
        together = torch.from_numpy(value) + change.get(name, torch.zeros(()))
        torch.testing.assert_close(together, torch.from_numpy(expected[name]), rtol=1e-5, atol=1e-6)


def test_a_tensor_without_a_place_is_told_and_no_file_is_written(tmp_path: Path, log_lines: list[str]) -> None:
    config = LlamaConfig(**WIDE | {"tie_word_embeddings": True})
    for name, settings in {
        "head": LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"),
        "whole": LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"], task_type="CAUSAL_LM"),
    }.items():
        model = attach(AutoModelForCausalLM.from_config(config), settings)
        save_adapter(model, make_tokenizer("<s>"), tmp_path / name)
        save_gguf(tmp_path / name, tmp_path / "adapter.gguf", "mine")
        assert not (tmp_path / "adapter.gguf").exists()
        assert "adapter.gguf is not written, as a LoRA file of llama.cpp has no place for" in log_lines[-1]


def test_an_output_layer_of_its_own_has_a_place(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(LlamaConfig(**WIDE))
    settings = LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM")
    save_adapter(attach(model, settings), make_tokenizer("<s>"), tmp_path)
    save_gguf(tmp_path, tmp_path / "adapter.gguf", "mine")
    assert set(tensors(tmp_path / "adapter.gguf")) == {"output.weight.lora_a", "output.weight.lora_b"}


def test_what_cannot_become_such_a_file_is_refused_before_the_search(tmp_path: Path) -> None:
    asked = ["--export.gguf", "true", "--task.type", "chat", "--task.path", "x.jsonl", "--model.name", str(tmp_path)]
    GPT2Config(model_type="gpt2").save_pretrained(tmp_path)
    refuse_without_gguf(parse(asked).config)
    from transformers import OPTConfig

    OPTConfig().save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"^--export\.gguf: true is not allowed for .*, a model of type opt; allowed: "
    ):
        refuse_without_gguf(parse(asked).config)
    refuse_without_gguf(parse(asked[2:]).config)
    with pytest.raises(UserError, match=r"^--export\.gguf: true is not allowed with --lora\.modules_to_save"):
        parse([*asked, "--lora.modules_to_save", "[lm_head]"])
    with pytest.raises(UserError, match=r"^--export\.gguf: true is not allowed for --task\.type sample, whose model"):
        parse(["--export.gguf", "true"])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("scale", ["component", "fixed", "rslora"])
def test_llama_cpp_computes_the_logits_of_peft(tmp_path: Path, scale: str) -> None:
    """On a base in F32, with keys and values in F32, too; 4e-6 of the largest logit was measured."""
    import llama_cpp

    model, tokenizer = adapted("llama", tmp_path, scale=scale), make_tokenizer("<s>")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    write_gguf(tmp_path / "base.gguf", plain, tokenizer, quantised=False)
    ids = list(range(3, 40))
    found = {}
    for lora in (None, str(tmp_path / "adapter.gguf")):
        loaded = llama_cpp.Llama(
            str(tmp_path / "base.gguf"), lora_path=lora, n_ctx=64, logits_all=True, verbose=False, n_threads=1,
            type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
        )  # fmt: skip
        loaded.eval(ids)
        found[lora] = torch.tensor(loaded.scores[: len(ids)])
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
        without = plain(torch.tensor([ids])).logits[0]
    size = float(expected.abs().max())
    torch.testing.assert_close(found[str(tmp_path / "adapter.gguf")], expected, rtol=0, atol=2e-5 * size)
    torch.testing.assert_close(found[None], without, rtol=0, atol=2e-5 * size)
    assert float((expected - without).abs().max()) > 0.1 * size, "the adapter does something"
