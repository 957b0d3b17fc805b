"""The curve: how much of what LoRA gains is left when every layer is cut, measured on rows that chose nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.answer.likelihood import Likelihood
from engine.answer.shares import ratio_error


@dataclass(frozen=True)
class Judged:
    """The loss of each row, summed over its labels [rows], with the temperature that the other half of the rows chose,
    and the rows' weights [rows]. `temperature` is the geometric mean of the two."""

    losses: Tensor
    weights: Tensor
    temperature: float

    @property
    def loss(self) -> float:
        """Nats a label."""
        return float(self.losses.sum() / self.weights.sum())

    def above(self, other: "Judged") -> tuple[float, float]:
        """The loss minus that of `other` on the same rows, and its standard error by row."""
        rows = self.losses - other.losses
        return float(rows.sum() / self.weights.sum()), float(ratio_error(rows, self.weights))


def crossed(likelihood: Likelihood, chosen: Sequence[Tensor], weights: Tensor, first: np.ndarray) -> Judged:
    """Each half of the rows judged by what the other half chose.

    `chosen`: the statistics [rows, numbers] of all rows under the choice of the first half, and under that of the
    second (the same, where only the temperature is chosen). `first`: which rows are in the first half.
    """
    losses = torch.zeros_like(weights)
    temperatures = []
    for statistics, half in zip(chosen, (first, ~first), strict=True):
        own, other = torch.from_numpy(half), torch.from_numpy(~half)
        temperature = likelihood.fitted(statistics[own], weights[own])
        losses[other] = likelihood.losses(statistics[other], temperature, weights[other])
        temperatures.append(temperature)
    return Judged(losses, weights, float(np.exp(np.mean(np.log(temperatures)))))


def calibrated_loss(likelihood: Likelihood, outputs: np.ndarray, labels: np.ndarray) -> float | None:
    """The log loss of a model's outputs [rows, ...], nats a label: every second row at the temperature of the others.
    None where one half of the rows has no label.

    Larger models are more often over-confident: without a temperature the log loss compares that, not what they know.
    """
    statistics, weights = likelihood.statistics(torch.from_numpy(outputs).float(), torch.from_numpy(labels))
    first = np.arange(len(labels)) % 2 == 0
    if min(float(weights[torch.from_numpy(half)].sum()) for half in (first, ~first)) == 0:
        return None
    return crossed(likelihood, (statistics, statistics), weights.double(), first).loss


def kept(point: Judged, whole: Judged, head: Judged) -> tuple[float, float]:
    """The part of the gain that a cut keeps, and its standard error: 1 - (L - L_whole) / (L_head - L_whole).

    Both differences are of the same rows, so that the error of the quotient is that of their combination by row.
    """
    (lost, _), (gain, _) = point.above(whole), head.above(whole)
    if gain == 0:  # a model that learned nothing at all: there is nothing to keep
        return 0.0, 0.0
    share = lost / gain
    rows = (point.losses - whole.losses) - share * (head.losses - whole.losses)
    return 1 - share, float(ratio_error(rows, whole.weights)) / abs(gain)
