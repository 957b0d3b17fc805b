"""The scale on which the numbers of a regression are learned: mean 0 and standard deviation 1.

A new head starts near 0, and its learning rate is for outputs of about the size 1. Numbers such as prices would be out
of its reach, and the outer gradient with eta `betty` grows with the square of the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import nn

_FAR = 10
"""From a mean of so many deviations on, half precision is too coarse: bf16 rounds a number by up to its 256th part,
which is then a 25th of a deviation."""


@dataclass(frozen=True)
class LabelScale:
    """The model learns (label - mean) / deviation; both are those of the training rows."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: Sequence[float]) -> Self:
        """The scale of these labels."""
        return cls(float(np.mean(labels)), float(np.std(labels)))

    @property
    def needs_fp32(self) -> bool:
        """Whether a model that predicts in the units of the file must compute its output in fp32."""
        return abs(self.mean) > _FAR * self.deviation

    def scaled(self, label: float) -> float:
        """A label as the model learns it."""
        return (label - self.mean) / self.deviation

    def restored(self, values: np.ndarray) -> np.ndarray:
        """The model's outputs in the units of the file."""
        return values.astype(float) * self.deviation + self.mean

    @torch.no_grad()
    def into_head(self, model: nn.Module) -> bool:
        """Changes the trained head so that `model` predicts in the units of the file.

        Does nothing and returns False if the output layer has no bias (most decoders) or more than one output."""
        layers = [
            layer
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear) and layer.out_features == 1 and layer.weight.requires_grad
            if "lora_" not in name
        ]
        if not layers or layers[-1].bias is None:
            return False
        output = layers[-1]  # a model defines its head after its body
        output.weight.mul_(self.deviation)
        output.bias.mul_(self.deviation).add_(self.mean)
        return True
