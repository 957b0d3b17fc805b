"""How far the ranks by threshold are decided: whether alpha still crosses lambda at the end of the search."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.schema import Constraint
from engine.ranks import RankRecord
from engine.ranks.rules import ROUNDING, kept_components, thresholds
from engine.run.folder import RunFolder
from engine.search import trajectory
from engine.search.trajectory import Trajectory

LEAST_POINTS = 8
"""With fewer logged points in the last quarter of the search nothing is decided."""
APART = 2.0
"""Standard deviations between an alpha and lambda from which the component is decided."""


@dataclass(frozen=True)
class Trust:
    """The last quarter of a search: its logged points, which layers are decided there [layers], and how many ranks
    changed in it. Decided means steady within this search; another seed may decide otherwise."""

    points: int
    decided: tuple[bool, ...]
    changed: int

    def words(self) -> str:
        """What a person is told of it."""
        if self.points < LEAST_POINTS:
            return (
                f"nothing is decided yet: the last quarter of the search has {self.points} logged points, and "
                f"{LEAST_POINTS} are needed"
            )
        return (
            f"{sum(self.decided)} of {len(self.decided)} ranks are decided within this search (its last quarter "
            f"changed {self.changed}); another seed may decide otherwise"
        )


def trust_of(history: Trajectory, constraint: Constraint) -> Trust:
    """How far the threshold of this constraint has decided the ranks of a trajectory.

    A layer is decided when its rank stayed the same over the last quarter of the logged points, and each alpha is at
    the end at least APART of its standard deviations over these points away from lambda.
    """
    points = len(history.steps) // 4
    layers = len(history.names)
    if points < LEAST_POINTS:
        return Trust(points, (False,) * layers, 0)
    alpha = np.stack(history.alpha[-points:]).astype(np.float64)
    ranks = np.stack([kept_components(at, constraint).sum(axis=1) for at in alpha])
    steady = (ranks == ranks[0]).all(axis=0)
    bound = thresholds(alpha[-1], constraint)
    distance = np.abs(alpha[-1] - bound)
    # An alpha that never left lambda is decided by nothing, also where 1/k is no float.
    apart = (distance >= APART * alpha.std(axis=0, ddof=1)) & (distance > ROUNDING * np.abs(bound))
    return Trust(points, tuple((steady & apart.all(axis=1)).tolist()), int((~steady).sum()))


def trust_words(record: RankRecord | None, folder: RunFolder) -> str:
    """How far ranks by threshold are decided; "" for other ranks, and where no search is there to tell."""
    if record is None or record.rule != "threshold" or not folder.trajectory.exists():
        return ""
    constraint: Any = record.constraint
    return trust_of(trajectory.read(folder.trajectory), constraint).words()
