"""The losses of held-out rows with what other rows chose, differences of them, and their errors.

Rows of one group depend on each other: a group counts as one draw in standard errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autolora.engine.measure.likelihood import Likelihood


def _by_group(values: Tensor, groups: np.ndarray) -> Tensor:
    """The sums of values [rows, ...] over the rows of each group [groups, ...]; `groups`: a number
    for each row."""
    sums = torch.zeros(int(groups.max()) + 1, *values.shape[1:], dtype=values.dtype)
    return sums.index_add_(0, torch.tensor(groups), values)


def ratio_error(sums: Tensor, weights: Tensor, groups: np.ndarray | None = None) -> Tensor:
    """The standard error of sum(sums) / sum(weights) over independent draws [draws, ...] of
    different weights [draws].

    `groups`: a number for each draw; draws with the same number depend on each other, and count as
    one. If all have the same number, each counts as a draw, as in `rows.numbered`. Infinite if
    there is only one draw.
    """
    if groups is not None and groups.min() < groups.max():
        return ratio_error(_by_group(sums, groups), _by_group(weights, groups))
    draws = len(weights)
    total = weights.sum()
    if draws < 2:
        return torch.full_like(sums[0], float("inf"))
    by = weights.view(-1, *[1] * (sums.dim() - 1))
    rest = sums - by * (sums.sum(dim=0) / total)
    error: Tensor = (rest.square().sum(dim=0) * draws / (draws - 1)).sqrt() / total
    return error


@dataclass(frozen=True)
class Judged:
    """The losses of all rows, those of each fold at the temperature that was fitted on the other
    folds.

    `losses`: of each row, summed over its labels, in nats [rows]. `weights`: labels of each row
    [rows]. `groups`: the number of the group of each row [rows]; rows of one group depend on each
    other, and count as one draw in standard errors. None: each row is a draw."""

    losses: Tensor
    weights: Tensor
    groups: np.ndarray | None = None

    @property
    def loss(self) -> float:
        """The mean loss, nats per label."""
        return float(self.losses.sum() / self.weights.sum())

    def above(self, other: "Judged") -> tuple[float, float]:
        """The mean loss minus that of `other` on the same rows, and the standard error of the
        difference."""
        rows = self.losses - other.losses
        return float(rows.sum() / self.weights.sum()), float(
            ratio_error(rows, self.weights, self.groups)
        )


def cross_fitted(
    likelihood: Likelihood,
    statistics: Sequence[Tensor],
    weights: Tensor,
    folds: np.ndarray,
    groups: np.ndarray | None = None,
) -> Judged:
    """The losses of each fold's rows with what the other folds chose: the temperature, and one of
    the candidates.

    `statistics`: a tensor [rows, numbers] for each candidate (such as two heads), in which every
    row was measured with what the folds beside its own chose. `folds`: the fold of each row [rows].
    `groups`: as in `Judged`.
    """
    losses = torch.zeros_like(weights)
    for fold in range(int(folds.max()) + 1):
        own = torch.from_numpy(folds == fold)
        rest = ~own if bool((~own).any()) else own
        fitted = [likelihood.fitted(one[rest], weights[rest]) for one in statistics]
        at_best = [
            float(likelihood.losses(one[rest], temperature, weights[rest]).sum())
            for one, temperature in zip(statistics, fitted, strict=True)
        ]
        best = at_best.index(min(at_best))
        losses[own] = likelihood.losses(statistics[best][own], fitted[best], weights[own])
    return Judged(losses, weights, groups)


def calibrated(
    likelihood: Likelihood, statistics: Tensor, weights: Tensor, groups: np.ndarray
) -> Judged | None:
    """The losses of held-out rows with these statistics [rows, numbers]; None if one half of them
    has no label.

    `weights`: as in `Judged`; `groups`: the number of the group of each row, counted in their order
    [rows]. The rows of every other group are one half; the loss of each half is taken at the
    temperature that was fitted on the other. Without a temperature, the log loss would mostly
    measure over-confidence, which grows with the model's size.
    """
    halves = groups % 2
    if min(float(weights[torch.from_numpy(halves == half)].sum()) for half in (0, 1)) == 0:
        return None
    return cross_fitted(likelihood, [statistics], weights, halves, groups)


def kept(point: Judged, whole: Judged, without: Judged) -> tuple[float, float]:
    """The part of the gain that a cut keeps, 1 - (L - L_whole) / (L_without - L_whole), and its
    standard error.

    Both differences are over the same rows, so the standard error comes from their combination in
    each row.
    """
    (lost, _) = point.above(whole)
    (gain, _) = without.above(whole)
    if gain == 0:  # the model learned nothing, so there is nothing to keep
        return 0.0, 0.0
    share = lost / gain
    rows = (point.losses - whole.losses) - share * (without.losses - whole.losses)
    return 1 - share, float(ratio_error(rows, whole.weights, whole.groups)) / abs(gain)
