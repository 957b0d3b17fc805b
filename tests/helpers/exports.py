"""The scales of a model's LoRA, which its exported forms must have."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from autolora.problems.models.attach import lora_layers


def of_mean_rank(kept: Mapping[str, int], alpha: float, k: int) -> Any:
    """What `scales_of` must be with retrain.scale mean_rank, nearly; `kept`: layer -> rank."""
    return pytest.approx(dict.fromkeys(kept, alpha / math.sqrt(k * sum(kept.values()) / len(kept))), rel=1e-12)


def scales_of(model: Any) -> dict[str, float]:
    """The scale of each layer with LoRA."""
    return {name: layer.scaling["default"] for name, layer in lora_layers(model).items()}
