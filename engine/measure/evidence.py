"""What a search measured on D_val, as ranks.json stores it: LoRA's gain, and the part of it that lower ranks keep."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from autolora.configs.errors import UserError

ONE_SIDED = 1.64
"""A one-sided test at 5 % allows this many standard errors; a 90 % interval reaches as far on either side."""
SEEN = 2.0
"""A gain or a share counts as real, not as noise, if it exceeds this many of its standard errors."""
FEW_ROWS = 200
"""With fewer rows of D_val (those of one source count as one) the program says that the evidence is too weak for an
answer."""
SOLVED = 0.05
"""With a smaller loss than this without LoRA, in nats per label, a task of classes or tokens is solved without it. The
loss of a regression depends on the labels' unit, so that no value of it says that."""
SLIGHT, SLIGHT_NATS = 0.01, 0.05
"""A gain is slight below this part of the loss without LoRA, and below this many nats per label: the loss of a
regression grows with the labels' unit, so that a gain of 1 % of it may be a much smaller error."""
_ROUNDED = 1e-6
"""A loss of 0 may be so far below it."""
LEAST_ROWS = 8
"""With fewer rows of D_val nothing is measured: what is chosen on one half of them is measured on the other half."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")


def interval(value: float, standard_error: float) -> tuple[float, float]:
    """The 90 % interval around a measured value."""
    return value - ONE_SIDED * standard_error, value + ONE_SIDED * standard_error


@dataclass(frozen=True)
class CurvePoint:
    """What the searched model loses when it keeps fewer components, without further training.

    `at`: on the rank curve, the rank of every layer; on the budget curve, the budget as an average rank, within which
    a rule chooses the components. `loss`: in nats per label, with the logits divided by `temperature`, which was
    fitted for this point (in a regression, it is the variance of the error instead). `standard_error`: of the
    difference between this loss and that of the reference (`reference_of`). `kept`: the part of the gain that remains.
    `parameters`: of LoRA; None on the rank curve. `reference_kept_standard_error`: of the part that remains of what
    the reference gains; None if the reference is the whole searched model, as `kept` is that part then.
    """

    at: float
    loss: float
    standard_error: float
    temperature: float
    kept: float
    kept_standard_error: float
    parameters: int | None = None
    reference_kept_standard_error: float | None = None

    __pydantic_config__ = _STRICT


def reference_of(kept: Mapping[int, tuple[float, float]]) -> int:
    """The rank beside which ranks and budgets are judged. `kept`: rank of the curve -> the part of the gain that it
    keeps, and its standard error.

    It is the largest rank, which is the whole searched model. If the searched model is over-fitted, so that it surely
    does better on D_val when it is cut to a lower rank, it is the best of these."""
    sure = [rank for rank, (part, error) in kept.items() if part - ONE_SIDED * error > 1]
    return max(sure, key=lambda rank: kept[rank][0]) if sure else max(kept)


@dataclass(frozen=True)
class Evidence:
    """What was measured on `rows` rows of D_val from `sources` sources; losses are in nats per label.

    Rows of one source, such as the references of a record, depend on each other, and count as one draw in standard
    errors. Where rows have no source, each is its own.

    `loss`: of the whole model. `gain`: the loss without LoRA minus `loss`. `without`: what was measured without LoRA,
    either "head alone" (after a search, the head trained without LoRA) or "LoRA off" (the model with its head as it
    is). `share_total`: the sum of all components' shares. `head_share`: the share of the head; 0 if there
    is none to train. `fall`: by how much the loss falls along the path of the integral, from the model without LoRA
    to the searched model; all shares should sum to it. It differs from the gain as both losses are those at one
    `temperature`. `nodes`: the number of points of the path at which the integral was evaluated. `allowed_gap`: by
    which part of `fall` the shares may miss it. `rank_curve`: with one rank in every layer, cut in the balanced basis
    (engine/cut/basis.py); `plain_curve`: the same by plain SVD. `budget_rule`: the rule that chose the components on
    the budget curve. `uneven_curve`: uneven cuts of the size of the rank `at` in every layer, with the standard error
    of the difference to it. `regression`: whether the labels are numbers. `folds`: what was chosen on all but one of
    so many folds of the rows was measured on that one.
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
    budget_curve: tuple[CurvePoint, ...]
    allowed_gap: float
    regression: bool
    folds: int
    plain_curve: tuple[CurvePoint, ...]
    uneven_curve: tuple[CurvePoint, ...]

    __pydantic_config__ = _STRICT

    @property
    def reference(self) -> CurvePoint:
        """The point of the rank curve beside which ranks and budgets are judged (`reference_of`)."""
        by_rank = {int(point.at): point for point in self.rank_curve}
        return by_rank[reference_of({rank: (p.kept, p.kept_standard_error) for rank, p in by_rank.items()})]

    @property
    def overfitted(self) -> bool:
        """Whether the searched model surely does better on D_val when every layer is cut to a lower rank."""
        return self.learned and self.reference.at < max(point.at for point in self.rank_curve)

    def required_part(self, tolerance: float) -> float:
        """The part of the gain that a rank or a budget must keep to be enough: all but `tolerance` of what the
        reference gains. Above 1 if the searched model is over-fitted; NaN if LoRA gains nothing."""
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
        """Whether LoRA has learned anything that shows on D_val."""
        return self.gain > SEEN * self.gain_standard_error

    @property
    def slight(self) -> bool:
        """Whether LoRA surely lowers the loss on D_val, but next to nothing: two standard errors of many rows are
        small."""
        return self.learned and self.gain < min(SLIGHT * (self.loss + self.gain), SLIGHT_NATS)

    @property
    def solved(self) -> str:
        """Says that the task is solved without LoRA, which has learned next to nothing; "" if that is not so, and for
        a regression."""
        small = not self.regression and -_ROUNDED <= self.loss + self.gain < SOLVED
        if not small or (self.learned and not self.slight):
            return ""
        return f"the {self.without} already solves this task; LoRA is not needed"

    def keeping(self, part: float) -> int | None:
        """The smallest rank of the curve that keeps this part of the gain, as do the ranks above it, by the estimate
        itself; None if LoRA has learned nothing."""
        found = None
        for point in sorted(self.rank_curve, key=lambda point: -point.at) if self.learned else ():
            if point.kept < part:
                break
            found = int(point.at)
        return found

    def uneven_is_better(self, rank: int) -> bool:
        """Whether an uneven cut surely does better than the even one of this rank, on the rows that judge both."""
        even = {point.at: point for point in self.rank_curve}
        return any(
            even[rank].loss - point.loss > ONE_SIDED * point.standard_error
            for point in self.uneven_curve
            if point.at == rank
        )

    def sufficient_rank(self, tolerance: float) -> int | None:
        """The smallest rank that is enough if every layer has it; None if no rank is, or if LoRA has learned nothing.

        Enough is what surely keeps all but the part `tolerance` of what the reference gains: the lower end of its
        90 % interval does. Ranks are tested from the reference downwards, until one is not enough.
        """
        below = [point for point in self.rank_curve if point.at <= self.reference.at]
        found = self._smallest_enough(below, tolerance)
        return None if found is None else int(found.at)

    def sufficient_budget(self, tolerance: float) -> CurvePoint | None:
        """The smallest budget on the curve that is enough; None if none is.

        Budgets are tested downwards from the largest or, if the searched model is over-fitted, from the best one, as
        the larger ones may be over-fitted, too."""
        points = self.budget_curve
        if self.overfitted and points:
            best = min(points, key=lambda point: point.loss).at
            points = tuple(point for point in points if point.at <= best)
        return self._smallest_enough(points, tolerance)

    def _smallest_enough(self, points: Sequence[CurvePoint], tolerance: float) -> CurvePoint | None:
        found = None
        for point in sorted(points, key=lambda point: -point.at) if self.learned else ():
            surely, _ = interval(*self._kept_of_reference(point))
            if surely < 1 - tolerance:
                break
            found = point
        return found

    def _kept_of_reference(self, point: CurvePoint) -> tuple[float, float]:
        """The part of what the reference gains that a point keeps, and its standard error."""
        if not self.overfitted:
            return point.kept, point.kept_standard_error
        assert point.reference_kept_standard_error is not None
        lost = (point.loss - self.reference.loss) / self._reference_gain
        return 1 - lost, point.reference_kept_standard_error


def too_few(rows: int, sources: int) -> str:
    """Says that so many rows, from so many sources, are too few; "" if they are enough."""
    if sources >= FEW_ROWS:
        return ""
    if sources == rows:
        return f"{rows} rows are too few for a sure answer ({FEW_ROWS} are needed)"
    return (
        f"{rows} rows from {sources} sources are too few for a sure answer (rows from {FEW_ROWS} sources are needed)"
    )


def to_json(evidence: Evidence, tolerance: float) -> dict[str, Any]:
    """The evidence as keys and values of ranks.json."""
    found = {name: value for name, value in vars(evidence).items() if name not in CURVES}
    curves = {name: [_point(one, at) for one in getattr(evidence, name)] for name, at in CURVES.items()}
    return found | {"sufficient_rank": evidence.sufficient_rank(tolerance), "tolerance": tolerance} | curves


def _point(point: CurvePoint, name: str) -> dict[str, Any]:
    numbers = {key: value for key, value in vars(point).items() if key != "at" and value is not None}
    return {name: int(point.at) if name == "rank" else point.at} | numbers


CURVES = {"rank_curve": "rank", "plain_curve": "rank", "budget_curve": "budget", "uneven_curve": "rank"}
"""The curves, and what ranks.json calls the place of their points."""
KEYS = (*(field.name for field in fields(Evidence)), "sufficient_rank", "tolerance")
"""The keys of ranks.json that hold evidence."""


def from_json(raw: dict[str, Any], where: str) -> tuple[Evidence, float] | None:
    """The evidence in the keys of a ranks.json, and the tolerance of its sufficient rank; None if it has none, or that
    of an older program, which lacks some of the keys.

    Raises UserError, whose text begins with `where`, when the keys do not hold what `to_json` writes.
    """
    if any(raw.get(key) is None for key in (*(field.name for field in fields(Evidence)), "tolerance")):
        return None
    found = {field.name: raw[field.name] for field in fields(Evidence)}
    try:
        for curve, name in CURVES.items():
            found[curve] = [{("at" if key == name else key): point[key] for key in point} for point in found[curve]]
        # In strict mode pydantic reads tuples and dataclasses from JSON text, but not from Python's lists and dicts.
        return TypeAdapter(Evidence).validate_json(json.dumps(found)), float(raw["tolerance"])
    except (AttributeError, TypeError, ValueError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{where}: what was measured on D_val is not readable ({told:.200}); allowed: all of the keys "
                        f"{', '.join(KEYS)} as the search wrote them, or none") from error  # fmt: skip
