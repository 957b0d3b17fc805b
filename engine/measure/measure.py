"""Measure a model with LoRA on held-out rows: the gain, what fewer ranks keep of it, and what each layer is worth.

What is chosen (a basis, a temperature, components, a head) is chosen on all folds of the rows but one, and judged on
that one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autolora.engine.cut.budget import kept_within, parameters_of
from autolora.engine.cut.ranks import uneven_ranks
from autolora.engine.measure.evidence import CurvePoint, Evidence, reference_of
from autolora.engine.measure.gated import Bases, Cut, Gated
from autolora.engine.measure.judged import Judged, cross_fitted, kept
from autolora.engine.measure.likelihood import Gaussian, Likelihood
from autolora.engine.measure.passes import WITH_GRADIENT, Moments, Passes
from autolora.engine.measure.shares import Shares

FOLDS = 5
NODES = 3
"""How many values of t the Gauss-Legendre rule takes; with 3 it integrates polynomials up to degree 5 exactly. Each
costs two passes over all rows; on SmolLM2-135M three miss the fall of the loss by 1.3 %."""
EXACT = 0.02
"""If the shares miss the measured fall of the loss by more than this part of it, the nodes are doubled once."""
LEAST_DRAWS = 20
"""The standard error of shares comes from the spread of at least this many draws, if there are enough groups."""
HEADS = (1.0, 0.5)
"""The heads with which the components of a budget are measured (`Heads`): the searched one, and the one halfway to the
head alone."""


@dataclass(frozen=True)
class Plan:
    """What is measured beside the gain and the shares.

    `ranks`: those of the curve, one in every layer (empty: 1, 2, 4, ...). `budgets`: average ranks whose components
    `rule` ("shares" or "size") places. `keep`: parts of the gain; of the smallest rank that keeps each, an uneven cut
    of the same size is measured, too. `folds`: into how many the rows are divided. `batch`: rows at a time in a pass
    with a gradient."""

    ranks: Sequence[int] = ()
    budgets: Sequence[float] = ()
    rule: str = "shares"
    keep: Sequence[float] = (0.99, 0.95)
    folds: int = FOLDS
    batch: int = 8

    def curve(self, k: int) -> list[int]:
        """The ranks of the curve, rising, the last one k."""
        powers = (2**power for power in range(k.bit_length()))
        return sorted({k, *(rank for rank in (self.ranks or powers) if rank < k)})

    def passes(self, k: int, *, head: bool) -> int:
        """How many passes over all rows are planned; a pass with a gradient counts as WITH_GRADIENT passes."""
        budgets = len(self.budgets) * (len(HEADS) if head else 1)
        return 1 + (not head) + 2 * (len(self.curve(k)) - 1) + budgets + len(self.keep) + WITH_GRADIENT * (NODES + 1)


@dataclass(frozen=True)
class Measured:
    """What `measure` found: the evidence, the shares of every component of LoRA as it lay, and its moments."""

    evidence: Evidence
    shares: Shares
    moments: Moments


class NotFinite(ValueError):
    """The losses of the model are not finite, so that nothing can be measured."""


class _Folded:
    """Measures cuts of one model on the folds of its rows."""

    def __init__(self, gated: Gated, passes: Passes, count: int) -> None:
        self.gated, self.passes, self.folds = gated, passes, passes.rows.folds(count)
        self.weights = torch.zeros(0)
        """The weight of each row [rows], known after the first measurement."""

    @property
    def count(self) -> int:
        return int(self.folds.max()) + 1

    def statistics(self, cuts: Sequence[Cut | Sequence[Cut]]) -> list[Tensor]:
        """The statistics of all rows [rows, numbers] under each cut: one for all folds, or one for each of them."""
        of_folds = [[cut] * self.count if isinstance(cut, Cut) else cut for cut in cuts]
        found, self.weights = self.passes.of_cuts(self.gated, self.folds, of_folds) if cuts else ([], self.weights)
        return found

    def judged(self, *candidates: Tensor) -> Judged:
        """The rows' losses by the best of these statistics, as the other folds choose it."""
        return cross_fitted(self.passes.likelihood, candidates, self.weights, self.folds, self.passes.rows.groups)


@dataclass(frozen=True)
class _Beside:
    """What a cut is compared with: the rank curve's reference, the whole model, and what there is without LoRA."""

    reference: Judged
    whole: Judged
    without: Judged

    def point(self, at: float, judged: Judged, parameters: int | None = None) -> CurvePoint:
        """A point of a curve; its standard error is that of the difference to the reference."""
        (_, error), (part, part_error) = judged.above(self.reference), kept(judged, self.whole, self.without)
        of_reference = None if self.reference is self.whole else kept(judged, self.reference, self.without)[1]
        return CurvePoint(at, judged.loss, error, judged.temperature, part, part_error, parameters, of_reference)


def measure(
    gated: Gated, passes: Passes, plan: Plan, singular_values: Tensor | None = None, alone: Tensor | None = None
) -> Measured:
    """The gain of LoRA on `passes.rows`, its curves and its shares; nats per label.

    `alone`: the statistics of the head alone on every row [rows, numbers]; None if no head was searched: the zero of
    the gain is then the model with LoRA off and its head as it is. `singular_values` [layers, k]: for rule size.
    Raises NotFinite for a model that diverged.
    """
    folded, likelihood, ranks = _Folded(gated, passes, plan.folds), passes.likelihood, plan.curve(gated.gates.k)
    on, *rest = folded.statistics([Cut(gated.even(ranks[-1])), *([Cut(gated.even(0))] if alone is None else [])])
    off = rest[0] if alone is None else alone
    if not bool(on.isfinite().all() and off.isfinite().all()):
        raise NotFinite
    temperature = shared_temperature(likelihood, (off, on), folded.weights)
    moments = passes.moments(gated, folded.folds, temperature, plan.batch)
    bases = [moments.bases(gated, fold) for fold in range(folded.count)]
    plain = gated.plain()
    balanced = folded.statistics([[Cut(gated.even(rank), of) for of in bases] for rank in ranks[:-1]])
    by_svd = folded.statistics([Cut(gated.even(rank), plain) for rank in ranks[:-1]])
    whole, without = folded.judged(on), folded.judged(off)
    even = {rank: folded.judged(one) for rank, one in zip(ranks, [*balanced, on], strict=True)}
    reference = even[reference_of({rank: kept(one, whole, without) for rank, one in even.items()})]
    beside = _Beside(reference, whole, without)
    shares, nodes, fall = _shares(folded, (off, on), temperature, plan.batch)
    gain, error = without.above(whole)
    evidence = Evidence(
        allowed_gap=EXACT,
        rows=len(passes.rows),
        sources=passes.rows.group_count,
        without="LoRA off" if alone is None else "head alone",
        loss=whole.loss,
        gain=gain,
        gain_standard_error=error,
        share_total=float(shares.mean().sum()),
        head_share=shares.head,
        fall=fall,
        nodes=nodes,
        temperature=temperature,
        rank_curve=tuple(beside.point(rank, one) for rank, one in even.items()),
        plain_curve=tuple(
            beside.point(rank, folded.judged(one)) for rank, one in zip(ranks, [*by_svd, on], strict=True)
        ),
        budget_rule=plan.rule,
        budget_curve=_budget_curve(folded, plan, shares, singular_values, beside),
        uneven_curve=(),
        regression=isinstance(likelihood, Gaussian),
        folds=folded.count,
    )
    uneven = _uneven_curve(folded, evidence, plan, bases, even, beside)
    return Measured(replace(evidence, uneven_curve=uneven), shares, moments)


def shared_temperature(likelihood: Likelihood, off_on: Sequence[Tensor], weights: Tensor) -> float:
    """The temperature at which the shares are measured: the larger of those that fit without LoRA and with all of it.

    At the smaller one, the model at the other end would be over-confident, and the few rows that it gets surely wrong
    would dominate the shares: on SST-2, a temperature that moves with the gates doubled the standard errors of the
    shares. The sum of the shares is compared with a difference of losses, which are exact only at the temperatures of
    the likelihood's grid, so one of these is taken."""
    return max(likelihood.exact(likelihood.fitted(at, weights)) for at in off_on)


def _shares(folded: _Folded, off_on: Sequence[Tensor], temperature: float, batch: int) -> tuple[Shares, int, float]:
    """The shares, the number of nodes that they took, and the fall of the loss that they should sum to.

    `off_on`: the statistics of all rows at both ends of the path. If the sum misses the fall by more than EXACT, the
    nodes are doubled once."""
    passes, weights = folded.passes, folded.weights
    first, last = (passes.likelihood.losses(at, temperature, weights).sum() / weights.sum() for at in off_on)
    fall = float(first - last)
    shares = passes.shares(folded.gated, folded.folds, temperature, batch, NODES, LEAST_DRAWS)
    if abs(shares.total() - fall) <= EXACT * abs(fall):
        return shares, NODES, fall
    passes.extend(WITH_GRADIENT * 2 * NODES * len(passes.rows))
    return passes.shares(folded.gated, folded.folds, temperature, batch, 2 * NODES, LEAST_DRAWS), 2 * NODES, fall


def _budget_curve(
    folded: _Folded, plan: Plan, shares: Shares, singular_values: Tensor | None, beside: _Beside
) -> tuple[CurvePoint, ...]:
    """What the components keep that a rule takes within each budget.

    Each fold measures the components that the other folds' shares chose, and the head that suits the other folds
    best: components may lie in few layers, and others that the searched head relies on may be missing."""
    sizes = folded.gated.sizes
    budgets = [budget for budget in plan.budgets if parameters_of(budget, sizes) >= min(sizes)]
    heads = HEADS if folded.gated.heads.weights else HEADS[:1]
    of_folds = [shares.without(fold) for fold in range(folded.count)]
    cuts = [
        [Cut(_within(plan, of, singular_values, sizes, budget), head=head) for of in of_folds]
        for budget in budgets
        for head in heads
    ]
    found, points = folded.statistics(cuts), []
    for place, budget in enumerate(budgets):
        tried = found[place * len(heads) : (place + 1) * len(heads)]
        taken = _within(plan, shares, singular_values, sizes, budget).sum(dim=1)
        points.append(beside.point(budget, folded.judged(*tried), int(taken @ torch.tensor(sizes))))
    return tuple(points)


def _within(plan: Plan, shares: Shares, singular_values: Tensor | None, sizes: Sequence[int], budget: float) -> Tensor:
    return within(plan.rule, shares.mean(), shares.standard_error(), singular_values, sizes, budget)


def within(
    rule: str, share: Tensor, error: Tensor, singular_values: Tensor | None, sizes: Sequence[int],
    budget: float | None,
) -> Tensor:  # fmt: skip
    """The components that a rule takes for an average rank of `budget` (None: without a limit). Boolean [layers, k].

    Rule shares takes the largest shares per parameter that exceed their standard errors. Rule size takes the largest
    squared singular values per parameter (PARA takes the largest singular values, whatever a component costs).
    """
    parameters = None if budget is None else parameters_of(budget, sizes)
    if rule == "shares":
        return kept_within(share, sizes, parameters, share > error)
    assert singular_values is not None
    return kept_within(singular_values.square(), sizes, parameters)


def _uneven_curve(
    folded: _Folded, evidence: Evidence, plan: Plan, bases: Sequence[Bases], even: Mapping[int, Judged],
    beside: _Beside,
) -> tuple[CurvePoint, ...]:  # fmt: skip
    """Uneven cuts in the balanced basis, of the sizes of even ones: of the ranks that keep the parts `plan.keep`.

    A point's standard error is that of the difference to the even cut."""
    gated, points = folded.gated, []
    wanted = sorted({rank for part in plan.keep if (rank := evidence.keeping(part)) not in (None, gated.gates.k)})
    parameters = [
        sum(min(rank, r) * size for r, size in zip(gated.ranks, gated.sizes, strict=True)) for rank in wanted
    ]
    cuts = [
        [Cut(gated.first(uneven_ranks([one.size for one in of], gated.sizes, count)), of) for of in bases]
        for count in parameters
    ]
    for rank, count, found in zip(wanted, parameters, folded.statistics(cuts), strict=True):
        judged = folded.judged(found)
        points.append(replace(beside.point(rank, judged, count), standard_error=judged.above(even[rank])[1]))
    return tuple(points)
