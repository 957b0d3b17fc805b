"""The scale on which the numbers of a regression are learned: mean 0 and standard deviation 1.

A new head starts near 0, and its learning rate is for outputs of about the size 1. Numbers such as prices would be out
of its reach, and the outer gradient with eta `betty` grows with the square of the loss.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import nn

log = logging.getLogger("autolora.inputs")

_FAR = 10
"""From a mean of so many deviations on, half precision is too coarse: bf16 rounds a number by up to its 256th part,
which is then a 25th of a deviation."""


_FARTHEST = 1e5
"""From a mean of so many deviations on, fp32 is too coarse, too: it rounds by up to a 170th of a deviation."""


@dataclass(frozen=True)
class LabelScale:
    """The model learns (label - mean) / deviation; both are those of the training rows."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: Sequence[float]) -> Self:
        """The scale of these labels. If all are equal, the deviation is set to 1."""
        values = np.asarray(labels, dtype=float)
        # The mean of equal numbers may be rounded, so that their deviation is not 0 but, say, 1.4e-17.
        deviation = float(values.std()) if np.ptp(values) > 0 else 0.0
        return cls(float(values.mean()), deviation or 1.0)

    @classmethod
    def told(cls, labels: Sequence[float], what: str) -> Self:
        """The scale of these labels, of which a line tells the user. `what`: the rows, in words."""
        scale = cls.of(labels)
        log.info(
            "data: %s, numbers with mean %.4g and standard deviation %.4g; the program learns them with mean 0 and "
            "standard deviation 1 and converts its predictions", what, scale.mean, scale.deviation,
        )  # fmt: skip
        return scale

    @property
    def needs_fp32(self) -> bool:
        """Whether a model that predicts in the units of the file must compute its output in fp32."""
        return abs(self.mean) > _FAR * self.deviation

    @property
    def beyond_fp32(self) -> bool:
        """Whether no model can predict in the units of the file, as fp32 would round away what was learned."""
        return abs(self.mean) > _FARTHEST * self.deviation

    def scaled(self, labels: Sequence[float]) -> list[float]:
        """Labels as the model learns them."""
        return [(label - self.mean) / self.deviation for label in labels]

    def restored(self, values: np.ndarray) -> np.ndarray:
        """The model's outputs, or scaled labels, in the units of the file."""
        return np.asarray(values, dtype=float) * self.deviation + self.mean

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
