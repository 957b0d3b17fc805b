"""What was measured on held-out rows, as ranks.json and measure.json store it: LoRA's gain, and
what cuts keep of it.

The module imports no torch: showing a finished run must not wait seconds for it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

ONE_SIDED = 1.64
"""A one-sided test at 5 % allows this many standard errors; a 90 % interval reaches as far on
either side."""
SEEN = 2.0
"""A gain or a share counts as real, not as noise, if it exceeds this many of its standard
errors."""
FEW_ROWS = 200
"""With rows of fewer groups the program says that the evidence is too weak for an answer."""


def interval(value: float, standard_error: float) -> tuple[float, float]:
    """The 90 % interval around a measured value."""
    return value - ONE_SIDED * standard_error, value + ONE_SIDED * standard_error


@dataclass(frozen=True)
class CurvePoint:
    """What the model loses when it keeps fewer components, without further training.

    `at`: the rank of every layer. `loss`: in nats per label, at a temperature that was fitted for
    this point (in a regression, with such a variance of the error). `standard_error`: of the
    difference between this loss and that of the reference (`reference_of`). `kept`: the part of the
    gain that remains. `parameters`: of LoRA; 0 where an older version did not write them.
    `reference_kept_standard_error`: of the part that remains of what the reference gains.
    """

    at: Annotated[float, Field(alias="rank")]
    loss: float
    standard_error: float
    kept: float
    kept_standard_error: float
    parameters: int = 0
    reference_kept_standard_error: float = 0.0


@dataclass(frozen=True)
class BudgetPoint(CurvePoint):
    """As CurvePoint, but `at` is an average rank, within which a rule chose the components."""

    at: Annotated[float, Field(alias="budget")]


def reference_of(kept: Mapping[int, tuple[float, float]]) -> int:
    """The rank beside which ranks and budgets are judged. `kept`: rank of the curve -> the part of
    the gain that it keeps, and its standard error.

    It is the largest rank, which is the whole searched model. If the searched model is over-fitted,
    so that it surely does better when it is cut to a lower rank, it is the best of these."""
    sure = [rank for rank, (part, error) in kept.items() if part - ONE_SIDED * error > 1]
    return max(sure, key=lambda rank: kept[rank][0]) if sure else max(kept)


@dataclass(frozen=True)
class Evidence:
    """What was measured on `rows` rows from `sources` groups, each of which is one draw in standard
    errors (rows of one input depend on each other); losses are in nats per label.

    `loss`: of the whole model. `gain`: the loss without LoRA minus `loss`. `without`: what was
    measured without LoRA, either "head alone" (after a search, the head trained without LoRA) or
    "LoRA off" (the model with its head as it is). `share_total`: the sum of all components' shares.
    `head_share`: the share of the head; 0 if there is none to train. `fall`: by how much the loss
    falls along the path of the integral, to which all shares should sum; it differs from the gain
    as both losses are those at one `temperature`. `nodes`: the number of points of the path.
    `rank_curve`: with one rank in every layer, cut in the balanced basis; `plain_curve`: the same
    by plain SVD. `budget_rule`: the rule that chose the components on the budget curve.
    `uneven_curve`: uneven cuts of the size of the rank `at` in every layer, with the standard error
    of the difference to it. `regression`: whether the labels are numbers. `folds`: what was chosen
    on all but one of so many folds of the rows was measured on that one.
    """

    rows: int
    sources: int
    without: str
    loss: float
    gain: float
    gain_standard_error: float
    share_total: float
    head_share: float
    fall: float
    nodes: int
    temperature: float
    rank_curve: tuple[CurvePoint, ...]
    budget_rule: str
    budget_curve: tuple[BudgetPoint, ...]
    # What older versions measured, on two folds, lacks these.
    plain_curve: tuple[CurvePoint, ...] = ()
    uneven_curve: tuple[CurvePoint, ...] = ()

    @property
    def reference(self) -> CurvePoint:
        """The point of the rank curve beside which ranks and budgets are judged
        (`reference_of`)."""
        by_rank = {int(point.at): point for point in self.rank_curve}
        return by_rank[
            reference_of({rank: (p.kept, p.kept_standard_error) for rank, p in by_rank.items()})
        ]

    @property
    def overfitted(self) -> bool:
        """Whether the searched model surely does better when every layer is cut to a lower rank."""
        return self.learned and self.reference.at < max(point.at for point in self.rank_curve)

    def required_part(self, tolerance: float) -> float:
        """The part of the gain that a rank or a budget must keep to be enough: all but `tolerance`
        of what the reference gains. Above 1 if the searched model is over-fitted; NaN if LoRA gains
        nothing."""
        return (1 - tolerance) * self._reference_gain / self.gain if self.gain > 0 else math.nan

    @property
    def _reference_gain(self) -> float:
        return self.gain + self.loss - self.reference.loss

    @property
    def few(self) -> str:
        """Says that the rows are too few for a sure answer; "" if there were enough."""
        return too_few(self.rows, self.sources)

    @property
    def learned(self) -> bool:
        """Whether LoRA has learned anything that shows on these rows."""
        return self.gain > SEEN * self.gain_standard_error

    def keeping(self, part: float) -> int | None:
        """The smallest rank of the curve that keeps this part of the gain, as do the ranks above
        it, by the estimate itself; None if LoRA has learned nothing."""
        found = self._lowest(self.rank_curve, lambda point: point.kept >= part)
        return None if found is None else int(found.at)

    def uneven_is_better(self, rank: int) -> bool:
        """Whether an uneven cut surely does better than the even one of this rank, on the rows that
        judge both."""
        even = {point.at: point for point in self.rank_curve}
        return any(
            even[rank].loss - point.loss > ONE_SIDED * point.standard_error
            for point in self.uneven_curve
            if point.at == rank
        )

    def sufficient_rank(self, tolerance: float) -> int | None:
        """The smallest rank that is enough if every layer has it; None if no rank is, or if LoRA
        has learned nothing.

        Enough is what surely keeps all but the part `tolerance` of what the reference gains: the
        lower end of its 90 % interval does. Ranks are tested from the reference downwards, until
        one is not enough.
        """
        points = [point for point in self.rank_curve if point.at <= self.reference.at]
        found = self._lowest(points, lambda point: self._surely_keeps(point) >= 1 - tolerance)
        return None if found is None else int(found.at)

    def sufficient_budget(self, tolerance: float) -> CurvePoint | None:
        """The smallest budget on the curve that is enough; None if none is.

        Budgets are tested downwards from the largest or, if the searched model is over-fitted, from
        the best one, as the larger ones may be over-fitted, too."""
        points: Sequence[CurvePoint] = self.budget_curve
        if self.overfitted and points:
            best = min(points, key=lambda point: point.loss).at
            points = [point for point in points if point.at <= best]
        return self._lowest(points, lambda point: self._surely_keeps(point) >= 1 - tolerance)

    def _lowest(
        self, points: Sequence[CurvePoint], enough: Callable[[CurvePoint], bool]
    ) -> CurvePoint | None:
        """The lowest point that is enough, as are those above it; None if LoRA has learned
        nothing."""
        lowest = None
        if self.learned:
            for point in sorted(points, key=lambda point: -point.at):
                if not enough(point):
                    break
                lowest = point
        return lowest

    def _surely_keeps(self, point: CurvePoint) -> float:
        """The lower end of the 90 % interval of the part that a point keeps of what the reference
        gains."""
        if not self.overfitted:
            return interval(point.kept, point.kept_standard_error)[0]
        lost = (point.loss - self.reference.loss) / self._reference_gain
        return interval(1 - lost, point.reference_kept_standard_error)[0]


def too_few(rows: int, sources: int) -> str:
    """Says that so many rows, from so many groups, are too few; "" if they are enough."""
    of = "" if sources == rows else f" from {sources} sources"
    return (
        ""
        if sources >= FEW_ROWS
        else f"{rows} rows{of} are too few for a sure answer ({FEW_ROWS} are needed)"
    )
