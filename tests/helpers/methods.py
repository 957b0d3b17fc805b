"""The layers of a tiny BERT with ranks for them, and what a model with LoRA shows."""

from typing import Any

from autolora.problems.models.attach import lora_layers

# A width of 32: one rank-1 component of a layer has 64 numbers, the head 66.
SIZE = 64
HEAD = 66
K = 4
NAMES = [
    f"bert.encoder.layer.{i}.attention.self.{part}" for i in (0, 1) for part in ("query", "value")
]
LEARNED = [1, 4, 2, 3]


def scales_of(model: Any) -> dict[str, float]:
    """The scale of each layer with LoRA."""
    return {name: layer.scaling["default"] for name, layer in lora_layers(model).items()}
