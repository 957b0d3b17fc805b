"""The curve: how much of LoRA's gain is left if every layer keeps fewer components.

Each half of the rows is measured under choices that were made on the other half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autolora.engine.answer.likelihood import Likelihood
from autolora.engine.answer.shares import ratio_error


@dataclass(frozen=True)
class Judged:
    """The losses of all rows, each half at the temperature that was fitted on the other half.

    `losses`: of each row, summed over its labels, in nats [rows]. `weights`: labels of each row [rows]. `temperature`:
    the geometric mean of the two halves' temperatures. `sources`: the number of the source of each row [rows]; rows of
    one source depend on each other, and count as one draw in standard errors. None: each row is a draw."""

    losses: Tensor
    weights: Tensor
    temperature: float
    sources: np.ndarray | None = None

    @property
    def loss(self) -> float:
        """The mean loss, nats per label."""
        return float(self.losses.sum() / self.weights.sum())

    def above(self, other: "Judged") -> tuple[float, float]:
        """The mean loss minus that of `other` on the same rows, and the standard error of the difference over
        sources."""
        rows = self.losses - other.losses
        return float(rows.sum() / self.weights.sum()), float(ratio_error(rows, self.weights, self.sources))


def crossed(
    likelihood: Likelihood, chosen: Sequence[Tensor], weights: Tensor, first: np.ndarray,
    sources: np.ndarray | None = None,
) -> Judged:  # fmt: skip
    """The losses of each half of the rows under the choice that was made on the other half.

    `chosen`: two tensors of statistics [rows, numbers], each of all rows: with the components that the first half
    chose, and with those that the second half chose (the same tensor twice if no components are chosen). `first`:
    whether each row is in the first half [rows]. `sources`: as in `Judged`.
    """
    losses = torch.zeros_like(weights)
    temperatures = []
    for statistics, half in zip(chosen, (first, ~first), strict=True):
        own, other = torch.from_numpy(half), torch.from_numpy(~half)
        temperature = likelihood.fitted(statistics[own], weights[own])
        losses[other] = likelihood.losses(statistics[other], temperature, weights[other])
        temperatures.append(temperature)
    return Judged(losses, weights, float(np.exp(np.mean(np.log(temperatures)))), sources)


def calibrated(likelihood: Likelihood, statistics: Tensor, weights: Tensor, sources: np.ndarray) -> Judged | None:
    """The losses of held-out rows with these statistics [rows, numbers]; None if one half of them has no label.

    `weights`: as in `Judged`; `sources`: the number of the source of each row, counted in their order [rows]. The rows
    of every other source are one half; the loss of each half is taken at the temperature that was fitted on the other.
    Without a temperature, the log loss would mostly measure over-confidence, which grows with the model's size.
    """
    first = sources % 2 == 0
    if min(float(weights[torch.from_numpy(half)].sum()) for half in (first, ~first)) == 0:
        return None
    return crossed(likelihood, (statistics, statistics), weights, first, sources)


def kept(point: Judged, whole: Judged, head: Judged) -> tuple[float, float]:
    """The part of the gain that a cut keeps, 1 - (L - L_whole) / (L_head - L_whole), and its standard error.

    Both differences are over the same rows, so the standard error comes from their combination in each row.
    """
    (lost, _), (gain, _) = point.above(whole), head.above(whole)
    if gain == 0:  # the model learned nothing, so there is nothing to keep
        return 0.0, 0.0
    share = lost / gain
    rows = (point.losses - whole.losses) - share * (head.losses - whole.losses)
    return 1 - share, float(ratio_error(rows, whole.weights, whole.sources)) / abs(gain)
