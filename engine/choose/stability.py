"""Whether ranks by threshold are decided: no alpha of a decided layer crosses lambda near the end of the search."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from autolora.configs.search import Constraint
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.rules import ROUNDING, kept_components, thresholds
from autolora.engine.run.folder import RunFolder
from autolora.engine.search import trajectory
from autolora.engine.search.trajectory import Trajectory

LEAST_POINTS = 8
"""If the last quarter of the search has fewer logged points, no layer counts as decided."""
APART = 2.0
"""A component is decided if its alpha is at least this many standard deviations away from lambda."""


@dataclass(frozen=True)
class Trust:
    """Which ranks the last quarter of a search decides.

    Decided means steady within this search; another seed may decide otherwise.
    `points`: logged points in that quarter. `decided`: whether each layer is decided [layers]. `changed`: in how many
    layers the rank changed in that quarter. `distance`: of the layer's alpha that is nearest to lambda, in standard
    deviations over that quarter [layers]; infinite if that alpha did not move, empty with too few points or `fixed`
    ranks: every rank is 1, whatever alpha is."""

    points: int
    decided: tuple[bool, ...]
    changed: int
    distance: tuple[float, ...] = ()
    fixed: bool = False

    def words(self) -> str:
        """The sentence about the decided ranks, for the log, the summary and the report."""
        if self.fixed:
            return "every rank is 1, as the threshold never drops a layer's only component (lora.k 1)"
        if self.points < LEAST_POINTS:
            return (
                f"nothing is decided yet: the last quarter of the search has {self.points} logged points, and "
                f"{LEAST_POINTS} are needed"
            )
        return (
            f"{sum(self.decided)} of {len(self.decided)} ranks are decided within this search ({self.changed} "
            f"changed in its last quarter); another seed may decide otherwise"
        )


def trust_of(history: Trajectory, constraint: Constraint) -> Trust:
    """Which ranks the trajectory decides, by the threshold of this constraint.

    A layer is decided if its rank was the same at all points of the last quarter, and the last value of each alpha is
    at least APART standard deviations away from lambda; the standard deviation is that over the same points. With
    k = 1 every layer is decided, also by few points, unless the constraint is sigmoid: under softmax alpha is always
    1, under none lambda is always alpha.
    """
    points = len(history.steps) // 4
    layers = len(history.names)
    if history.alpha[-1].shape[1] == 1 and constraint != "sigmoid":
        return Trust(points, (True,) * layers, 0, fixed=True)
    if points < LEAST_POINTS:
        return Trust(points, (False,) * layers, 0)
    alpha = np.stack(history.alpha[-points:]).astype(np.float64)
    ranks = np.stack([kept_components(at, constraint).sum(axis=1) for at in alpha])
    steady = (ranks == ranks[0]).all(axis=0)
    bound = thresholds(alpha[-1], constraint)
    distance = np.abs(alpha[-1] - bound)
    # An alpha that stayed at lambda is not decided. For some k, 1/k is rounded, so that equality needs a tolerance.
    deviation = alpha.std(axis=0, ddof=1)
    apart = (distance >= APART * deviation) & (distance > ROUNDING * np.abs(bound))
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = np.where(distance > ROUNDING * np.abs(bound), distance / deviation, 0.0).min(axis=1)
    return Trust(points, tuple((steady & apart.all(axis=1)).tolist()), int((~steady).sum()), tuple(nearest.tolist()))


def trust_of_run(record: RankRecord | None, folder: RunFolder) -> Trust | None:
    """Which ranks of a run are decided; None if another rule made the ranks, or if the folder has no trajectory."""
    if record is None or record.rule != "threshold" or not folder.trajectory.exists():
        return None
    constraint: Any = record.constraint
    return trust_of(trajectory.read(folder.trajectory), constraint)
