"""What each component of LoRA is worth: its share of the fall of the loss from LoRA off to on.

    s_lj = - integral over t in 0..1 of dL_val/dg_lj, where all gates are t

This is the Aumann-Shapley value. The integrand is the direct gradient of the outer problem
(AutoLoRA Eq. 5), but with respect to the gates, not to beta: the softmax in each layer lets beta
see only how its components differ, not what they have in common. While the gates open, what no gate
reaches moves from its value off to its value on: the head that was trained beside LoRA, magnitudes,
biases; its part of the integral is one share. All shares sum to L_val at t = 0 minus L_val at
t = 1, at one temperature. They are not in the paper. The share of a whole layer does not depend on
the basis of its LoRA; that of a component does.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from autolora.engine.measure.judged import ratio_error
from autolora.engine.measure.lora import Cut, Lora, call_with, evaluating
from autolora.engine.measure.passes import WITH_GRADIENT, Loaded, Passes

NODES = 3
"""How many values of t the Gauss-Legendre rule takes; with 3 it integrates polynomials up to degree
5 exactly. Each costs two passes over all rows; on SmolLM2-135M three miss the fall of the loss by
1.3 %."""
EXACT = 0.02
"""If the shares miss the measured fall of the loss by more than this part of it, the nodes are
doubled once."""
LEAST_DRAWS = 20
"""The standard error of shares comes from the spread of at least this many draws, if there are
enough groups."""


@dataclass(frozen=True)
class Shares:
    """The shares of the components from independent draws of whole groups, and that of what no gate
    reaches over all draws.

    `sums`: over the labels of each draw, in nats [draws, layers, k]. `weights`: labels of each draw
    [draws]. `folds`: the fold of each draw [draws]. `head`: the share of the head, or of magnitudes
    and biases, in nats per label.
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
        """The standard error of each mean share divided by the sum of all of them [layers, k]. A
        row that raises all shares alike says nothing about the parts. The sum must be above 0."""
        whole = self.sums.sum(dim=(1, 2), keepdim=True)
        parts = self.sums.sum(dim=0) / whole.sum()
        error = ratio_error(self.sums - parts * whole, self.weights)
        return error * self.weights.sum() / whole.sum()

    def by_layer(self) -> "Shares":
        """The shares of whole layers [draws, layers, 1]. Their errors are not sums of the
        components' errors, as those depend on each other."""
        return replace(self, sums=self.sums.sum(dim=2, keepdim=True))

    def total(self) -> float:
        """The sum of all shares, that of the head included, in nats per label."""
        return float(self.mean().sum()) + self.head

    def without(self, fold: int) -> "Shares":
        """The components' shares on the draws of the other folds; of the head's nothing is known
        there."""
        others = self.folds != fold
        if not others.any():
            return self
        draws = torch.from_numpy(others)
        return Shares(self.sums[draws], self.weights[draws], self.folds[others], float("nan"))

    def columns(self) -> dict[str, Tensor]:
        """The values of the fields of ranks.json's layers that hold shares, a row for each
        layer."""
        of_layers = self.by_layer()
        columns = {
            "share": self.mean(),
            "share_standard_error": self.standard_error(),
            "layer_share": of_layers.mean().flatten(),
            "layer_share_standard_error": of_layers.standard_error().flatten(),
        }
        if float(self.sums.sum()) > 0:
            columns["layer_part_standard_error"] = of_layers.part_error().flatten()
        return columns


def measure_shares(
    lora: Lora,
    passes: Passes,
    folds: np.ndarray,
    temperature: float,
    batch: int,
    fall: float,
) -> tuple[Shares, int]:
    """The shares, and the number of nodes that they took: if their sum misses `fall`, the fall of
    the loss along the path, by more than EXACT of it, the nodes are doubled once."""
    shares = integrate(lora, passes, folds, temperature, batch, NODES)
    if abs(shares.total() - fall) <= EXACT * abs(fall):
        return shares, NODES
    passes.extend(WITH_GRADIENT * 2 * NODES * len(passes.rows))
    return integrate(lora, passes, folds, temperature, batch, 2 * NODES), 2 * NODES


def integrate(
    lora: Lora,
    passes: Passes,
    folds: np.ndarray,
    temperature: float,
    batch: int,
    nodes: int,
    least: int = LEAST_DRAWS,
) -> Shares:
    """The shares from at least `least` random draws of whole groups, by the Gauss-Legendre rule
    with this many `nodes`, at most `batch` rows at a time."""
    places, parts = np.polynomial.legendre.leggauss(nodes)
    line = list(zip(((places + 1) / 2).tolist(), (parts / 2).tolist(), strict=True))
    draws = passes.rows.draws(folds, batch, least)
    sums = torch.zeros(len(draws), len(lora.layers), lora.k, dtype=torch.float64)
    weights = torch.zeros(len(draws), dtype=torch.float64)
    head = torch.zeros((), dtype=torch.float64)
    batches = [
        (draw, rows[start : start + batch])
        for draw, rows in enumerate(draws)
        for start in range(0, len(rows), batch)
    ]
    with evaluating(lora.model):
        for loaded in passes.batches([rows for _, rows in batches]):
            draw, _ = batches[loaded.number]
            for t, part in line:
                by_gates, by_ungated, labels = slopes_at(lora, passes, loaded, temperature, t)
                sums[draw] -= part * by_gates
                head -= part * by_ungated
            weights[draw] += labels
            passes.advance(len(loaded.rows) * WITH_GRADIENT * nodes)
    sums, weights, head = passes.processes.summed([sums, weights, head])
    of_draws = folds[[rows[0] for rows in draws]]
    return Shares(sums, weights, of_draws, float(head / weights.sum()))


def slopes_at(
    lora: Lora, passes: Passes, loaded: Loaded, temperature: float, t: float
) -> tuple[Tensor, float, float]:
    """dL/dg of a batch where all gates are t [layers, k], dL/dt through what no gate reaches, and
    the batch's labels."""
    gates = torch.full((len(lora.layers), lora.k), t, requires_grad=True)
    place = torch.tensor(t, requires_grad=True)
    likelihood = passes.likelihood

    def slopes() -> tuple[Tensor, Tensor, Tensor]:
        with passes.compute.autocast():
            logits, labels = passes.labelled_logits(lora.model, loaded.inputs, loaded.labels)
        loss = likelihood.loss(logits, labels, temperature)
        by_gates, by_place = torch.autograd.grad(
            loss, [gates, place], materialize_grads=True, allow_unused=True
        )
        return by_gates, by_place, likelihood.weights(logits, labels).sum()

    overrides = lora.overrides(Cut(gates, ungated=place))
    by_gates, by_place, labels = call_with(lora.model, overrides, slopes)
    return by_gates.double(), float(by_place), float(labels)
