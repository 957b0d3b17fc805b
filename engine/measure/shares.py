"""Shares: what LoRA gains on held-out rows, divided among its components and the head.

    s_lj = - integral over t in 0..1 of dL_val/dg_lj, where all gates are t        (the Aumann-Shapley value)

The integrand is the direct gradient of the outer problem (AutoLoRA Eq. 5), but with respect to the gates, not to beta:
the softmax in each layer lets beta see only how its components differ, not what they have in common. While the gates
open, the head moves from the one that was trained alone to the searched one (`Heads`); its part of the integral is
the share of the head. All shares sum to L_val at t = 0 minus L_val at t = 1, at one temperature. They are not in the
paper. The share of a whole layer does not depend on the basis of its LoRA; that of a component does.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autolora.engine.measure.judged import ratio_error


@dataclass(frozen=True)
class Shares:
    """The shares of the components from independent draws of whole groups, and that of the head over all draws.

    `sums`: over the labels of each draw, in nats [draws, layers, k]. `weights`: labels of each draw [draws]. `folds`:
    the fold of each draw [draws]. `head`: in nats per label.
    """

    sums: Tensor
    weights: Tensor
    folds: np.ndarray
    head: float = 0.0

    def mean(self) -> Tensor:
        """The share of every component, nats per label [layers, k]."""
        return self.sums.sum(dim=0) / self.weights.sum()

    def standard_error(self) -> Tensor:
        """The standard error of `mean` [layers, k]."""
        return ratio_error(self.sums, self.weights)

    def part_error(self) -> Tensor:
        """The standard error of each mean share divided by the sum of all of them [layers, k]. A row that raises all
        shares alike says nothing about the parts. The sum must be above 0."""
        whole = self.sums.sum(dim=(1, 2), keepdim=True)
        parts = self.sums.sum(dim=0) / whole.sum()
        return ratio_error(self.sums - parts * whole, self.weights) * self.weights.sum() / whole.sum()

    def by_layer(self) -> "Shares":
        """The shares of whole layers [draws, layers, 1]. Their errors are not sums of the components' errors, as those
        depend on each other."""
        return Shares(self.sums.sum(dim=2, keepdim=True), self.weights, self.folds, self.head)

    def total(self) -> float:
        """The sum of all shares, that of the head included, in nats per label."""
        return float(self.mean().sum()) + self.head

    def without(self, fold: int) -> "Shares":
        """The components' shares on the draws of the other folds; of the head's nothing is known there."""
        rest = self.folds != fold
        if not rest.any():
            return self
        own = torch.from_numpy(rest)
        return Shares(self.sums[own], self.weights[own], self.folds[rest], float("nan"))

    def columns(self) -> dict[str, Tensor]:
        """The values of the fields of ranks.json's layers that hold shares, a row for each layer."""
        of_layers = self.by_layer()
        found = {
            "share": self.mean(),
            "share_standard_error": self.standard_error(),
            "layer_share": of_layers.mean().flatten(),
            "layer_share_standard_error": of_layers.standard_error().flatten(),
        }
        if float(self.sums.sum()) > 0:
            found["layer_part_standard_error"] = of_layers.part_error().flatten()
        return found
