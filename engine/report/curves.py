"""The curves of a search for the page, thinned to the points that a chart can show, and packed into few bytes."""

import base64
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from autolora.configs.search import Constraint
from autolora.engine.ranks.threshold import thresholds
from autolora.engine.search.trajectory import Trajectory

MOST_POINTS = 500
MOST_COLUMNS = 200


@dataclass(frozen=True)
class SearchCurves:
    """The curves of a search.

    `steps` [points]; `alpha`, `contribution` [points, layers, k]; `ranks` [points, layers]; `bounds` [layers]: lambda
    at the end of the search. `ranks` and `bounds` are None if another rule than threshold makes the ranks."""

    names: list[str]
    steps: np.ndarray
    alpha: np.ndarray
    contribution: np.ndarray
    ranks: np.ndarray | None
    bounds: np.ndarray | None

    @property
    def alpha_limits(self) -> tuple[float, float]:
        """The limits of an axis for alpha: the range of all finite alphas and of lambda, with a small margin."""
        shown = np.concatenate([self.alpha.ravel(), () if self.bounds is None else self.bounds])
        return limits_of(shown)


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """The limits of an axis that shows these values: the range of the finite ones, with a small margin."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin


def curves_of(history: Trajectory, constraint: Constraint | None) -> SearchCurves:
    """The curves of a trajectory: at most MOST_POINTS of its points, always including the first and the last.

    `constraint`: search.constraint, for the threshold; None if another rule makes the ranks.
    """
    count, ranks, bounds = len(history.steps), None, None
    chosen = np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int).tolist()
    if constraint is not None:
        ranks = history.ranks(constraint, chosen)
        bounds = thresholds(history.alpha[-1], constraint).flatten()
    steps, alpha, contribution = (
        np.stack([values[i] for i in chosen]) for values in (history.steps, history.alpha, history.contribution)
    )
    return SearchCurves(list(history.names), steps, alpha, contribution, ranks, bounds)


def stretches(curves: SearchCurves) -> list[tuple[int, float, float, int]]:
    """(layer, from step, to step, rank) for every stretch of steps over which a layer's rank stays the same.

    At most MOST_COLUMNS points are used. A change of rank between two points is drawn halfway between them: so the
    rank at the last point has a width, too, and can be seen. A search with a single point is drawn one step wide.
    """
    assert curves.ranks is not None
    count = len(curves.steps)
    chosen = np.linspace(0, count - 1, min(count, MOST_COLUMNS)).round().astype(int)
    ranks, steps = curves.ranks[chosen], curves.steps[chosen].tolist()
    halfway = [(before + after) / 2 for before, after in pairwise(steps)]
    starts = [steps[0], *halfway]
    ends = [*halfway, steps[-1] if len(steps) > 1 else steps[0] + 1]
    found = []
    for layer in range(ranks.shape[1]):
        column = ranks[:, layer]
        borders = [0, *(np.flatnonzero(np.diff(column)) + 1).tolist(), len(column)]
        found += [(layer, starts[i], ends[j - 1], int(column[i])) for i, j in pairwise(borders)]
    return found


def packed(values: np.ndarray) -> dict[str, Any]:
    """Numbers as 16-bit fractions of their range, in base64. They take a fifth of the bytes of JSON numbers, with an
    error of at most 1/65535 of the range. Numbers that are not finite become 0."""
    finite = np.where(np.isfinite(values), values, 0.0).astype(np.float64)
    low, high = float(finite.min()), float(finite.max())
    scaled = np.round((finite - low) / ((high - low) or 1.0) * 65535).astype("<u2")
    return {"low": low, "high": high, "data": base64.b64encode(scaled.tobytes()).decode("ascii")}


def page_data(curves: SearchCurves) -> dict[str, Any]:
    """The values that page.js needs to show any layer; its function `unpack` reverses `packed`."""
    return {
        "names": curves.names,
        "steps": curves.steps.tolist(),
        "k": curves.alpha.shape[2],
        "bounds": None if curves.bounds is None else curves.bounds.astype(float).tolist(),
        # As [layers, k, points], so that the curves of one layer lie together.
        "alpha": packed(curves.alpha.transpose(1, 2, 0)),
        "contribution": packed(curves.contribution.transpose(1, 2, 0)),
    }
