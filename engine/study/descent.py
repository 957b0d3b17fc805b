"""How the outer loss fell over the passes of each search of a study: read, smoothed, and averaged over the seeds."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from autolora.configs.errors import UserError
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.rows import ETA, FORWARD_PASSES, OPTIONS, SEARCHED_BY, SEED, TASK, labelled
from autolora.engine.tracking.metrics_file import MetricsFile

WINDOW = 10
"""The window over which losses are smoothed is the number of a search's logged steps divided by this."""
NO_OUTER_STEP = "none"
"""The hypergradient.type of a search that computes no loss on D_val."""

log = logging.getLogger("autolora")


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
    the rows have no seed in common, so that each is over its own; None if the study has no axis of seeds."""

    task: str
    lines: Mapping[str, Descent]
    seeds: Sequence[Any] | None


def searches(results: pd.DataFrame) -> pd.DataFrame:
    """The runs with a search of their own that took outer steps."""
    if FORWARD_PASSES not in results:
        return results[:0]
    return results[results[FORWARD_PASSES].notna() & (results[SEARCHED_BY] != NO_OUTER_STEP)]


def count_of_approximations(results: pd.DataFrame) -> int:
    """How many hypergradients, told apart by type, options and eta, the searches of these runs used."""
    return len(searches(results).reindex(columns=[SEARCHED_BY, OPTIONS, ETA]).drop_duplicates())


def descents(results: pd.DataFrame, axes: Sequence[str], folder: StudyFolder) -> list[TaskDescents]:
    """What each task's panel shows; a task without a logged loss has none.

    Seeds differ more than approximations, so all lines of a panel are means over the same seeds, if there are any.
    Warns of a cell whose losses cannot be read, and leaves it out.
    """
    found = []
    for task, runs in searches(labelled(results, axes)).groupby(TASK, sort=False):
        by_row: dict[str, dict[Any, np.ndarray]] = {}
        for row, seed, curve in _curves(runs, folder):
            by_row.setdefault(row, {})[seed] = curve
        if by_row:
            found.append(_averaged(str(task), by_row, of_seeds=SEED in runs))
    return found


def _curves(runs: pd.DataFrame, folder: StudyFolder) -> Iterator[tuple[str, Any, np.ndarray]]:
    """The row, the seed (None, if it is no axis) and the curve of each run that has one."""
    seeds = runs[SEED] if SEED in runs else [None] * len(runs)
    for row, seed, cell in zip(runs["row"], seeds, runs["cell"], strict=True):
        path = RunFolder(folder.cells / cell).search_metrics
        try:
            curve = _curve(MetricsFile(path).read())
            if not curve.size:
                raise UserError(f"{path}: does not exist, or holds no loss on D_val with its passes")
        except UserError as error:
            log.warning("the picture of L_val over the passes leaves out a cell: %s", error)
            continue
        yield row, seed, curve


def _curve(points: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Passes and smoothed loss [2, points] of the logged steps that have both."""
    keys = "forward_passes", "backward_passes", "val_loss"
    known = [values for point in points if None not in (values := tuple(map(point.get, keys)))]
    if not known:
        return np.empty((2, 0))
    forward, backward, loss = np.asarray(known, dtype=float).T
    return np.stack([forward + backward, smoothed(loss)])


def smoothed(loss: np.ndarray) -> np.ndarray:
    """The mean over a window that ends at the point and has a tenth of all points, at least three; at the beginning,
    as many as there are. So the last point is the mean of a whole window, too."""
    window = max(3, round(len(loss) / WINDOW))
    means: np.ndarray = pd.Series(loss).rolling(window, min_periods=1).mean().to_numpy()
    return means


def _averaged(task: str, by_row: Mapping[str, Mapping[Any, np.ndarray]], *, of_seeds: bool) -> TaskDescents:
    """The lines of a task. by_row: row -> seed -> its curve [2, points]."""
    common = [seed for seed in next(iter(by_row.values())) if all(seed in curves for curves in by_row.values())]
    lines = {row: [curves[seed] for seed in common or curves] for row, curves in by_row.items()}
    aligned = {row: _aligned(curves) for row, curves in lines.items()}
    levels = _levels([losses for _, losses in aligned.values()]) if common else 0.0
    # Taking out each seed's mean over the rows also takes out a part of a row's own differences (Morey 2008).
    factor = (len(lines) / (len(lines) - 1)) ** 0.5 if common and len(lines) > 1 else 1.0
    means = {
        row: Descent(passes, losses.mean(axis=0), _error(losses - levels, factor))
        for row, (passes, losses) in aligned.items()
    }
    return TaskDescents(task, means, common if of_seeds else None)


def _aligned(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The passes [points] at which the shortest of the curves has points, and the losses of all there
    [curves, points]."""
    shortest = min(curves, key=lambda curve: curve[0, -1])
    passes = shortest[0]
    return passes, np.stack([np.interp(passes, *curve) for curve in curves])


def _levels(rows: Sequence[np.ndarray]) -> np.ndarray | float:
    """By how much the loss at each seed lies above that of all seeds, over all rows and steps [seeds, 1]. rows
    [rows][seeds, points]. A single row is compared with none, so that its seeds keep their levels."""
    if len(rows) < 2:
        return 0.0
    at_seed: np.ndarray = np.mean([losses.mean(axis=1, keepdims=True) for losses in rows], axis=0)
    return at_seed - at_seed.mean()


def _error(losses: np.ndarray, factor: float) -> np.ndarray | None:
    """The standard error of the mean [points] of losses [seeds, points], times `factor`."""
    count = len(losses)
    if count < 2:
        return None
    error: np.ndarray = factor * losses.std(axis=0, ddof=1) / count**0.5
    return error
