"""Models of known shapes with random weights: what a step costs does not depend on what a model has learned."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from autolora.configs.errors import UserError
from autolora.problems.models.load import BaseModel

RANDOM = "random:"
# TinyLlama-1.1B's and SmolLM2-135M's shapes, by their published config.json.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-1.1b": {
        "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4,
    },
    "llama-135m": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
}  # fmt: skip


def shape_of(name: str) -> dict[str, Any] | None:
    """The shape behind `random:NAME`; None for the name of a real model. Raises UserError for an unknown one."""
    if not name.startswith(RANDOM):
        return None
    found = SHAPES.get(name.removeprefix(RANDOM))
    if found is None:
        allowed = ", ".join(f"{RANDOM}{known}" for known in SHAPES)
        raise UserError(f"--model: {name!r} is not allowed; allowed: a model as --model.name of run.py, {allowed}")
    return found


def random_llama(shape: dict[str, Any], dtype: torch.dtype, *, second_order: bool = False) -> BaseModel:
    """A causal model of a shape, its weights made in `dtype`; `second_order`: with an attention kernel that has second
    derivatives."""
    kernel: dict[str, Any] = {"attn_implementation": "eager" if second_order else "sdpa"}
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return BaseModel(LlamaForCausalLM(LlamaConfig(**shape, return_dict=True, **kernel)), [])
    finally:
        torch.set_default_dtype(before)
