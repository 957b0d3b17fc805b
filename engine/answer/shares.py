"""Shares: what the searched model gains on D_val over the head alone, divided among the components and the head.

    s_lj = - integral over t in 0..1 of dL_val/dg_lj, where all gates are t        (the Aumann-Shapley value)

The integrand is the direct gradient of the outer problem (AutoLoRA Eq. 5), but with respect to the gates, not to beta:
the softmax in each layer lets beta see only how its components differ, not what they have in common. While the gates
open, the head moves from the one that was trained alone to the searched one (`Heads`); its part of the integral is
the share of the head. All shares sum to L_val at t = 0 minus L_val at t = 1, at one temperature. They are not in the
paper.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autolora.engine.answer.cuts import Searched
from autolora.engine.answer.sample import WITH_GRADIENT, Sample
from autolora.problems.gates import NotByRow

NODES = 3
"""How many values of t the Gauss-Legendre rule takes; with 3 it integrates polynomials up to degree 5 exactly."""

Line = list[tuple[float, float]]
"""The nodes of an integral: t, and the weight of the slope there."""


@dataclass(frozen=True)
class Shares:
    """The shares of the components, from independent draws: a draw is a source (a row, or all rows of one input), or a
    random batch if the model mixes the rows of a batch.

    `sums`: over the labels of each draw, in nats [draws, layers, k]. `weights`: labels of each draw [draws]. `first`:
    whether a draw lies in the first half of the sample, boolean [draws].
    """

    sums: Tensor
    weights: Tensor
    first: Tensor

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
        return Shares(self.sums.sum(dim=2, keepdim=True), self.weights, self.first)

    def halves(self) -> tuple["Shares", "Shares"]:
        """The shares on the first and on the second half of the rows."""
        first, second = (
            Shares(self.sums[own], self.weights[own], self.first[own]) for own in (self.first, ~self.first)
        )
        return first, second


@dataclass(frozen=True)
class Division(Shares):
    """The fall of the loss, divided among the components and the head, whose share is known only over all draws.

    `head`: the share of the head, in nats per label."""

    head: float

    def total(self) -> float:
        """The sum of all shares, that of the head included, in nats per label."""
        return float(self.mean().sum()) + self.head


def by_source(values: Tensor, sources: np.ndarray) -> Tensor:
    """The sums of values [rows, ...] over the rows of each source [sources, ...]; `sources`: a number for each row."""
    sums = torch.zeros(int(sources.max()) + 1, *values.shape[1:], dtype=values.dtype)
    return sums.index_add_(0, torch.tensor(sources), values)


def ratio_error(sums: Tensor, weights: Tensor, sources: np.ndarray | None = None) -> Tensor:
    """The standard error of sum(sums) / sum(weights) over independent draws [draws, ...] of different weights [draws].

    `sources`: a number for each draw; draws with the same number depend on each other, and count as one. If all have
    the same number, each counts as a draw, as in `sample.sources_of`. Infinite if there is only one draw.
    """
    if sources is not None and len(np.unique(sources)) > 1:
        return ratio_error(by_source(sums, sources), by_source(weights, sources))
    draws, total = len(weights), weights.sum()
    if draws < 2:
        return torch.full_like(sums[0], float("inf"))
    by = weights.view(-1, *[1] * (sums.dim() - 1))
    rest = sums - by * (sums.sum(dim=0) / total)
    error: Tensor = (rest.square().sum(dim=0) * draws / (draws - 1)).sqrt() / total
    return error


def integrate(
    searched: Searched, temperature: float, sample: Sample, batch: int, nodes: int = NODES, until: float = 1.0
) -> Division:
    """The shares of every component and of the head on all rows of the sample, `batch` rows at a time.

    `until`: the t at which the integral ends; 1 for the whole path. Each row has its own gates, so that one backward
    pass gives the shares of every row in the batch. The model must have the components of `to_singular_basis`; dropout
    is off.
    """
    places, parts = np.polynomial.legendre.leggauss(nodes)
    line = list(zip((until * (places + 1) / 2).tolist(), (until * parts / 2).tolist(), strict=True))
    own = _own_rows(searched, temperature, sample, batch, line)
    # If a layer in any process cannot gate single rows, all processes use batches.
    if sample.processes.largest(int(own is None)) or own is None:
        return _by_batch(searched, temperature, sample, batch, line)
    sums, weights, head = sample.processes.summed(own)
    _, firsts = np.unique(sample.sources, return_index=True)
    return Division(
        by_source(sums, sample.sources), by_source(weights, sample.sources),
        torch.from_numpy(sample.first_half[firsts]), float(head / weights.sum()),
    )  # fmt: skip


def _own_rows(searched: Searched, temperature: float, sample: Sample, batch: int, line: Line) -> list[Tensor] | None:
    """The integrals [rows, layers, k] and weights [rows] of this process's rows, 0 for all other rows, and the head's
    integral over the rows (a scalar).

    None if a layer of the model cannot have different gates for different rows."""
    batches, gates = sample.by_length(batch), searched.gates
    sums = torch.zeros(len(sample.rows), len(gates.names), gates.k, dtype=torch.float64)
    weights, heads = torch.zeros(len(sample.rows), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    try:
        for number, found, head, own in _integrals(searched, temperature, sample, batches, line, by_row=True):
            sums[batches[number]], weights[batches[number]] = found, own
            heads += head
    except NotByRow:
        return None
    return [sums, weights, heads]


def _by_batch(searched: Searched, temperature: float, sample: Sample, batch: int, line: Line) -> Division:
    batches, gates = sample.random_batches(batch), searched.gates
    sums = torch.zeros(len(batches), len(gates.names), gates.k, dtype=torch.float64)
    weights, heads = torch.zeros(len(batches), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for number, found, head, own in _integrals(searched, temperature, sample, batches, line, by_row=False):
        sums[number], weights[number] = found, own.sum()
        heads += head
    sums, weights, heads = sample.processes.summed([sums, weights, heads])
    draws = _draws(sample, batches)
    _, firsts = np.unique(draws, return_index=True)
    first_half = torch.tensor([bool(sample.first_half[batches[first][0]]) for first in firsts])
    return Division(by_source(sums, draws), by_source(weights, draws), first_half, float(heads / weights.sum()))


def _draws(sample: Sample, batches: list[list[int]]) -> np.ndarray:
    """The number of the independent draw that each batch belongs to [batches].

    Batches that share a source depend on each other, so they are one draw; they follow each other in the order of the
    batches. If all rows have one source, each batch counts as a draw."""
    sources = [set(sample.sources[rows].tolist()) for rows in batches]
    new = [not (one & other) for one, other in itertools.pairwise(sources)]
    draws: np.ndarray = np.cumsum([False, *new])
    return draws if draws[-1] else np.arange(len(batches))


def _integrals(
    searched: Searched, temperature: float, sample: Sample, batches: list[list[int]], line: Line, *,
    by_row: bool,
) -> Iterator[tuple[int, Tensor, float, Tensor]]:  # fmt: skip
    """For each of this process's batches: its number, its integral [layers, k], that of the head, and its row weights
    [rows].

    With `by_row`, the integral of each row [rows, layers, k]."""
    model, gates, heads = searched.model, searched.gates, searched.heads
    model.eval()
    with _requiring_only(model, heads.parameters):
        for number, inputs, labels in sample.own(batches):
            shape = (*((len(labels),) if by_row else ()), len(gates.names), gates.k)
            sums, head = torch.zeros(shape, dtype=torch.float64), 0.0
            for t, part in line:
                values = torch.full(shape, t, device=sample.compute.device, requires_grad=True)
                with heads.at(t):
                    with gates.open(values), sample.compute.autocast():
                        logits, told = sample.labelled_logits(model, inputs, labels)
                    loss = sample.likelihood.loss(logits, told, temperature)
                    by_gates, *by_head = torch.autograd.grad(loss, [values, *heads.parameters], allow_unused=True)
                sums -= part * by_gates.cpu().double()
                head -= part * heads.slope(by_head)
            sample.advance(len(labels) * WITH_GRADIENT * len(line))
            yield number, sums, head, sample.likelihood.weights(logits, told).cpu().double()


@contextmanager
def _requiring_only(model: nn.Module, kept: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside the `with` block no weight requires a gradient but those in `kept`, so that backward passes compute
    nothing else beside the gates' gradients."""
    same = {id(weight) for weight in kept}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in same]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


EXACT = 0.02
"""Shares that miss the measured cost by more than this part of it are inexact."""

Integrate = Callable[[int], Division]
"""Number of nodes -> shares."""


def allowed_gap(*, rounds: bool) -> float:
    """How far the sum of the shares may miss what was measured directly at both ends of the path, as a part of it.

    `rounds`: whether passes round to bf16. Then it is larger, as more nodes do not lower the rounding: on
    SmolLM2-135M 3 nodes miss the cost by 2.5 % in bf16 and by 1.3 % in fp32, 6 nodes by 1.5 % and by 0.01 %."""
    return 0.03 if rounds else EXACT


def complete(
    by_nodes: Integrate, measured: float, gap: float, spare: Callable[[int], None] = lambda nodes: None
) -> tuple[Division, int]:
    """The shares, and how many nodes were used: NODES, or 2 * NODES if NODES are not accurate enough.

    NODES are accurate enough if the sum of all shares misses the fall of the loss along the path, `measured` on the
    same rows at its ends, by at most the part `gap` of it. `spare` is called with the number of nodes that are then
    not needed."""
    shares = by_nodes(NODES)
    if abs(shares.total() - measured) <= gap * abs(measured):
        spare(2 * NODES)
        return shares, NODES
    return by_nodes(2 * NODES), 2 * NODES
