"""The numbers of a search for its page: no more points than a chart can show, packed into few bytes."""

import base64
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from configs.schema import Constraint
from engine.ranks.rules import thresholds
from engine.search.trajectory import Trajectory

MOST_POINTS = 500
MOST_COLUMNS = 200


@dataclass(frozen=True)
class SearchCurves:
    """What a search did: `steps` [points]; alpha, contribution [points, layers, k]; ranks [points, layers], None
    and `bounds` [layers], lambda at the end: None where no threshold makes the ranks."""

    names: list[str]
    steps: np.ndarray
    alpha: np.ndarray
    contribution: np.ndarray
    ranks: np.ndarray | None
    bounds: np.ndarray | None


def curves_of(history: Trajectory, constraint: Constraint | None) -> SearchCurves:
    """The curves of a trajectory: at most MOST_POINTS of its points, always with the first and the last.

    `constraint`: that of the threshold; None where another rule makes the ranks.
    """
    chosen, ranks, bounds = spread(len(history.steps), MOST_POINTS), None, None
    if constraint is not None:
        ranks = history.ranks(constraint, chosen)
        bounds = thresholds(history.alpha[-1], constraint).flatten()
    steps, alpha, contribution = (
        np.stack([values[i] for i in chosen]) for values in (history.steps, history.alpha, history.contribution)
    )
    return SearchCurves(list(history.names), steps, alpha, contribution, ranks, bounds)


def spread(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` points, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def stretches(curves: SearchCurves) -> list[tuple[int, float, float, int]]:
    """(layer, from step, to step, rank) of every stretch over which a layer's rank stays the same, from the first
    logged step to the last.

    At most MOST_COLUMNS of the points are looked at. A rank that changed between two of them changes halfway, so that
    the last one is visible too; a single point is one step wide.
    """
    assert curves.ranks is not None
    chosen = spread(len(curves.steps), MOST_COLUMNS)
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
    """Numbers as 16-bit fractions of their range, in base64. They take a fifth of the space of JSON numbers and are
    wrong by at most 1/65535 of the range."""
    finite = np.where(np.isfinite(values), values, 0.0).astype(np.float64)
    low, high = float(finite.min()), float(finite.max())
    scaled = np.round((finite - low) / ((high - low) or 1.0) * 65535).astype("<u2")
    return {"low": low, "high": high, "data": base64.b64encode(scaled.tobytes()).decode("ascii")}


def page_data(curves: SearchCurves) -> dict[str, Any]:
    """What page.js needs to show any layer. Its function `unpack` reverses `packed`."""
    return {
        "names": curves.names,
        "steps": curves.steps.tolist(),
        "k": curves.alpha.shape[2],
        "bounds": None if curves.bounds is None else curves.bounds.astype(float).tolist(),
        # [layers, k, points]: the curves of one layer lie together.
        "alpha": packed(curves.alpha.transpose(1, 2, 0)),
        "contribution": packed(curves.contribution.transpose(1, 2, 0)),
    }
