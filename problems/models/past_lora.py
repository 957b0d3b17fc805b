"""Layers whose weight a model reads itself, without calling the layer: LoRA on them would do nothing."""

from torch import nn

from autolora.problems.models.parts import split

_MAMBA = {"x_proj", "dt_proj", "out_proj"}
_READ_PAST = {
    "mamba": _MAMBA, "falcon_mamba": _MAMBA, "jamba": {"dt_proj"},
    **{kind: {"out_proj"} for kind in ("mamba2", "falcon_h1", "nemotron_h", "bamba", "granitemoehybrid", "zamba2")},
}  # fmt: skip
"""Type of model -> the layers whose weight the model, or one of its kernels, reads directly, as transformers 5.24 has
them. PEFT refuses some of them."""


def reader_past_lora(model: nn.Module, name: str) -> str | None:
    """What reads the weight of the layer `name` directly, in words; None if the layer is called, as LoRA needs it."""
    layer = split(name)[0]
    within, _, ending = layer.rpartition(".")
    owner = model.get_submodule(within)
    if ending == "out_proj" and isinstance(owner, nn.MultiheadAttention):
        return "nn.MultiheadAttention"
    if ending in ("linear1", "linear2") and isinstance(owner, nn.TransformerEncoderLayer) and _has_fast_path(owner):
        return "nn.TransformerEncoderLayer in evaluation"
    kind = getattr(getattr(model, "config", None), "model_type", "")
    return f"a model of type {kind}" if ending in _READ_PAST.get(kind, ()) else None


def _has_fast_path(layer: nn.TransformerEncoderLayer) -> bool:
    """Whether torch 2.15 computes such a layer, outside training, by one kernel to which it gives all its weights."""
    attention = layer.self_attn
    usual = attention.batch_first and attention.in_proj_bias is not None and attention.num_heads % 2 == 0
    return bool(usual and layer.activation_relu_or_gelu)
