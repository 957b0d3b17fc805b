"""Layers whose weight a model reads itself, without calling the layer: LoRA on them would do nothing."""

from torch import nn

from problems.models.parts import split

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
    if ending == "out_proj" and isinstance(model.get_submodule(within), nn.MultiheadAttention):
        return "nn.MultiheadAttention"
    kind = getattr(getattr(model, "config", None), "model_type", "")
    return f"a model of type {kind}" if ending in _READ_PAST.get(kind, ()) else None
