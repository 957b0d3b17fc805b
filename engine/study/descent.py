"""How the outer loss fell over the passes of each search of a study: read, smoothed, and averaged over the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from autolora.engine.run.folder import RunFolder
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.rows import ETA, FORWARD_PASSES, OPTIONS, SEARCHED_BY, SEED, TASK
from autolora.engine.tracking.metrics_file import MetricsFile

WINDOW = 10
"""The window over which losses are smoothed is the number of a search's logged steps divided by this."""
NO_OUTER_STEP = "none"
"""The hypergradient.type of a search that computes no loss on D_val."""


@dataclass(frozen=True)
class Descent:
    """The mean loss of one row's searches over the forward and backward passes so far, both [points]. `error`: its
    standard error over the seeds [points]; None if it is of one search."""

    passes: np.ndarray
    loss: np.ndarray
    error: np.ndarray | None


@dataclass(frozen=True)
class TaskDescents:
    """What one panel shows: row of the table -> its line. `seeds`: those over which every line is the mean; empty if
    the rows have no seed in common, so that each is over its own."""

    task: str
    lines: Mapping[str, Descent]
    seeds: Sequence[Any] | None


def count_of_approximations(results: pd.DataFrame) -> int:
    """How many hypergradients, told apart by type, options and eta, the searches of these runs used."""
    return len(_searches(results)[[SEARCHED_BY, OPTIONS, ETA]].drop_duplicates())


def descents(results: pd.DataFrame, folder: StudyFolder) -> list[TaskDescents]:
    """What each task's panel shows; a task without a logged loss has none. Seeds differ more than approximations, so
    all lines of a panel are means over the same seeds, if there are any."""
    found = []
    for task, runs in _searches(results).groupby(TASK, sort=False):
        by_row: dict[str, dict[Any, np.ndarray]] = {}
        for row, seed, cell in zip(runs["row"], runs[SEED], runs["cell"], strict=True):
            curve = _curve(RunFolder(folder.cells / cell))
            if curve.size:
                by_row.setdefault(row, {})[seed] = curve
        if by_row:
            common = set.intersection(*(set(curves) for curves in by_row.values()))
            lines = {
                row: _averaged([curve for seed, curve in curves.items() if seed in common or not common])
                for row, curves in by_row.items()
            }
            found.append(TaskDescents(str(task), lines, sorted(common)))
    return found


def _searches(results: pd.DataFrame) -> pd.DataFrame:
    """The runs with a search of their own that took outer steps."""
    return results[results[FORWARD_PASSES].notna() & (results[SEARCHED_BY] != NO_OUTER_STEP)]


def _curve(run: RunFolder) -> np.ndarray:
    """Passes and smoothed loss [2, points] of the logged steps that have both. Each point is the mean over a window
    that ends there and has a tenth of all points, at least three."""
    columns = ["forward_passes", "backward_passes", "val_loss"]
    points = pd.DataFrame(MetricsFile(run.search_metrics).read(), columns=columns).dropna()
    window = max(3, round(len(points) / WINDOW))
    smooth = points["val_loss"].rolling(window, min_periods=1).mean()
    return np.stack([points["forward_passes"] + points["backward_passes"], smooth])


def _averaged(curves: Sequence[np.ndarray]) -> Descent:
    """The mean of curves [2, points], at the passes at which the shortest of them has points."""
    passes = min(curves, key=lambda curve: float(curve[0, -1]))[0]
    losses = np.stack([np.interp(passes, *curve) for curve in curves])
    error = losses.std(axis=0, ddof=1) / len(losses) ** 0.5 if len(losses) > 1 else None
    return Descent(passes, losses.mean(axis=0), error)
