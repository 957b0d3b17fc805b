"""What cuts keep of the gain: one rank in every layer, a budget that shares or sizes place, or
uneven ranks of the same size.

What is chosen (a basis, components, a temperature, a head) is chosen on all folds of the rows but
one, and judged on that one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from autolora.engine.measure.bases import Basis, kept_within, parameters_of, uneven_ranks
from autolora.engine.measure.evidence import BudgetPoint, CurvePoint
from autolora.engine.measure.judged import Judged, cross_fitted, kept
from autolora.engine.measure.lora import Cut, Lora
from autolora.engine.measure.passes import Passes
from autolora.engine.measure.shares import Shares

HEADS = (1.0, 0.5)
"""The heads with which the components of a budget are measured: the searched one, and the one
halfway to the head alone. Components may lie in few layers, and others that the searched head
relies on may be missing."""
Point = TypeVar("Point", bound=CurvePoint)


@dataclass(frozen=True)
class Folded:
    """A model's LoRA, the rows that go through it, and the fold of each row [rows]."""

    lora: Lora
    passes: Passes
    folds: np.ndarray

    @property
    def count(self) -> int:
        """The number of folds."""
        return int(self.folds.max()) + 1

    def everywhere(self, cut: Cut) -> list[Cut]:
        """The same cut for each fold."""
        return [cut] * self.count

    def measured(self, cuts: Sequence[Sequence[Cut]]) -> tuple[list[Tensor], Tensor]:
        """The statistics of all rows [rows, numbers] under each cut, which is given for each fold,
        and the rows' weights [rows]."""
        return self.passes.of_cuts(self.lora, self.folds, cuts)

    def judge(self, candidates: Sequence[Tensor], weights: Tensor) -> Judged:
        """The rows' losses by the best of these statistics, as the other folds choose it."""
        groups = self.passes.rows.group_numbers
        return cross_fitted(self.passes.likelihood, candidates, weights, self.folds, groups)

    def judge_cuts(self, cuts: Sequence[Sequence[Cut]]) -> list[Judged]:
        """The rows' losses under each cut, which is given for each fold."""
        if not cuts:
            return []
        found, weights = self.measured(cuts)
        return [self.judge([statistics], weights) for statistics in found]


@dataclass(frozen=True)
class Ends:
    """What cuts are judged beside: the `whole` model, the one `without` LoRA, and the `reference`,
    the best rank of the curve."""

    whole: Judged
    without: Judged
    reference: Judged

    def point(
        self, kind: type[Point], at: float, judged: Judged, gates: Tensor, sizes: Sequence[int]
    ) -> Point:
        """A point of a curve; its standard error is that of the difference to the reference.
        `gates` [layers, k]: 1 for what the cut keeps; `sizes`: parameters of a component."""
        _, error = judged.above(self.reference)
        part, part_error = kept(judged, self.whole, self.without)
        _, reference_error = kept(judged, self.reference, self.without)
        parameters = int(gates.sum(dim=1) @ torch.tensor(sizes))
        return kind(at, judged.loss, error, part, part_error, parameters, reference_error)


def even_cuts(
    lora: Lora, ranks: Sequence[int], bases: Sequence[Sequence[Basis]]
) -> list[list[Cut]]:
    """For each rank, the cut of each fold to it. `bases`: those of each fold."""
    return [[Cut(lora.even(rank), of_fold) for of_fold in bases] for rank in ranks]


def even_curve(lora: Lora, judged: Mapping[int, Judged], ends: Ends) -> tuple[CurvePoint, ...]:
    """A point for each rank that was judged."""
    return tuple(
        ends.point(CurvePoint, rank, of_rank, lora.even(rank), lora.sizes)
        for rank, of_rank in judged.items()
    )


def budget_curve(
    folded: Folded,
    ends: Ends,
    budgets: Sequence[float],
    shares: Shares,
    singular_values: Tensor | None,
) -> tuple[BudgetPoint, ...]:
    """What the components keep that a rule takes within each budget: those with the largest shares
    or, if `singular_values` [layers, k] are given, the largest of these.

    Each fold measures the components that the other folds' shares chose, and the head that suits
    the other folds best."""
    lora = folded.lora
    heads = HEADS if lora.ungated else HEADS[:1]

    def within(limit: int, known: Shares) -> Tensor:
        """The components that are taken within so many parameters. Boolean [layers, k]."""
        if singular_values is not None:
            return kept_within(singular_values.square(), lora.sizes, limit)
        share = known.mean()
        return kept_within(share, lora.sizes, limit, share > known.standard_error())

    points = []
    for budget in budgets:
        limit = parameters_of(budget, lora.sizes)
        if limit < min(lora.sizes):
            continue
        gates = [within(limit, shares.without(fold)) for fold in range(folded.count)]
        cuts = [[Cut(of_fold, ungated=head) for of_fold in gates] for head in heads]
        judged = folded.judge(*folded.measured(cuts))
        taken = within(limit, shares)
        points.append(ends.point(BudgetPoint, budget, judged, taken, lora.sizes))
    return tuple(points)


def uneven_curve(
    folded: Folded, ends: Ends, bases: Sequence[Sequence[Basis]], even: Mapping[int, Judged]
) -> tuple[CurvePoint, ...]:
    """Uneven cuts in the bases of each fold, of the sizes of these even ones.

    A point's standard error is that of the difference to the even cut."""
    lora = folded.lora
    points = []
    for rank, beside in even.items():
        even_point = ends.point(CurvePoint, rank, beside, lora.even(rank), lora.sizes)
        cuts = []
        for of_fold in bases:
            sizes = [basis.size for basis in of_fold]
            ranks = uneven_ranks(sizes, lora.sizes, even_point.parameters, least=lora.least)
            cuts.append(Cut(lora.first(ranks), of_fold))
        (judged,) = folded.judge_cuts([cuts])
        point = ends.point(CurvePoint, rank, judged, lora.even(rank), lora.sizes)
        _, error = judged.above(beside)
        points.append(replace(point, standard_error=error))
    return tuple(points)
