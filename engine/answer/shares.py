"""Shares: what switching LoRA off would cost on D_val, divided among the components.

    s_lj = - integral over t in 0..1 of dL_val/dg_lj at gates t        (the Aumann-Shapley value)

This is the direct gradient of the outer problem (AutoLoRA Eq. 5), which a softmax inside a layer cancels, summed on
the way from no LoRA to all of it. The shares sum to L_val(gates 0) - L_val(gates 1), with the head as
it was trained and one temperature. Ours, not the paper's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from engine.answer.sample import WITH_GRADIENT, Sample
from problems.gates import Gates

NODES = 3
"""Nodes of the Gauss-Legendre rule; 3 integrate polynomials in t up to degree 5."""


@dataclass(frozen=True)
class Shares:
    """Sums over the labels of each batch [batches, layers, k], in nats, and the weight of each batch [batches]."""

    sums: Tensor
    weights: Tensor

    def mean(self) -> Tensor:
        """The share of every component, nats a label [layers, k]."""
        return self.sums.sum(dim=0) / self.weights.sum()

    def standard_error(self) -> Tensor:
        """The standard error of `mean` [layers, k]."""
        return ratio_error(self.sums, self.weights)

    def by_layer(self) -> "Shares":
        """The same for whole layers [batches, layers, 1], whose components are not independent."""
        return Shares(self.sums.sum(dim=2, keepdim=True), self.weights)

    def of(self, batches: np.ndarray) -> "Shares":
        """Those of some of the batches (boolean [batches])."""
        chosen = torch.from_numpy(batches)
        return Shares(self.sums[chosen], self.weights[chosen])


def ratio_error(sums: Tensor, weights: Tensor) -> Tensor:
    """The standard error of sum(sums) / sum(weights) over independent draws [draws, ...] of different weights [draws].

    Infinite for a single draw.
    """
    draws, total = len(weights), weights.sum()
    if draws < 2:
        return torch.full_like(sums[0], float("inf"))
    by = weights.view(-1, *[1] * (sums.dim() - 1))
    rest = sums - by * (sums.sum(dim=0) / total)
    error: Tensor = (rest.square().sum(dim=0) * draws / (draws - 1)).sqrt() / total
    return error


def integrate(
    model: nn.Module, gates: Gates, sample: Sample, batches: list[list[int]], temperature: float, nodes: int = NODES
) -> Shares:
    """The shares of every component on these batches of the sample, at one temperature.

    The model has the components of `to_singular_basis`, and its dropout is off.
    """
    places, parts = np.polynomial.legendre.leggauss(nodes)
    line = list(zip(((places + 1) / 2).tolist(), (parts / 2).tolist(), strict=True))
    shape, device = (len(gates.names), gates.k), sample.compute.device
    sums = torch.zeros(len(batches), *shape, dtype=torch.float64)
    weights = torch.zeros(len(batches), dtype=torch.float64)
    model.eval()
    with _only_gates(model):
        for number, inputs, labels in sample.own(batches):
            for t, part in line:
                values = torch.full(shape, t, device=device, requires_grad=True)
                with gates.open(values), sample.compute.autocast():
                    logits = model(**inputs).logits
                loss = sample.likelihood.loss(logits, labels, temperature)
                (grad,) = torch.autograd.grad(loss, [values])
                sums[number] -= part * grad.double().cpu()
            sample.advance(len(labels) * WITH_GRADIENT * nodes)
            weights[number] = float(sample.likelihood.statistics(logits.detach(), labels)[1].sum())
    found = sample.processes.summed([sums, weights])
    return Shares(*found)


class _only_gates:  # noqa: N801 (a context manager, used as a function)
    """Inside, no weight asks for a gradient: the backward passes go to the gates alone."""

    def __init__(self, model: nn.Module) -> None:
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for parameter in self.trained:
            parameter.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        for parameter in self.trained:
            parameter.requires_grad_(True)


Integrate = Callable[[int], Shares]
"""The shares by so many nodes."""


def complete(by_nodes: Integrate, measured: float, tolerance: float = 0.02) -> tuple[Shares, int]:
    """The shares and the number of nodes they took: twice NODES where their sum misses the loss of switching LoRA off,
    `measured` on the same rows, by more than the tolerance."""
    shares = by_nodes(NODES)
    if abs(float(shares.mean().sum()) - measured) <= tolerance * abs(measured):
        return shares, NODES
    return by_nodes(2 * NODES), 2 * NODES
