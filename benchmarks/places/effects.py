"""How far the places of LoRA explain the loss: a ridge regression, whose inputs are the layers that had LoRA, must
predict the losses of trainings that were left out of its fit."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.places.allocations import Allocations
from engine.ranks.controls import module_type
from engine.ranks.grid import grid_of

_STRENGTHS = np.logspace(-2, 4, 25)
"""Strengths of the ridge; each fit chooses one by leaving out one of its own trainings at a time."""


@dataclass(frozen=True)
class Explained:
    """What one description of the places explains.

    `r2`: leave-one-out R2, below 0 if the description predicts worse than the mean. `spread`: the standard deviation
    of the loss that it explains, in nats; 0 where r2 is below 0.
    """

    described_by: str
    r2: float
    spread: float


def descriptions(found: Allocations) -> dict[str, np.ndarray]:
    """Name -> numbers that describe the places of each training [trainings, numbers], from coarse to fine; each
    description holds the one before."""
    chosen = found.chosen
    kinds = pd.get_dummies(pd.Series([module_type(name) for name in found.layers])).to_numpy(dtype=float)
    blocks = pd.get_dummies(pd.Series([block for block, _ in grid_of(found.layers).cells])).to_numpy(dtype=float)
    count = chosen.sum(axis=1, keepdims=True)
    coarse = np.hstack([count, chosen @ kinds])
    places = np.hstack([coarse, chosen @ blocks])
    return {
        "how many layers": count,
        "and of which module type": coarse,
        "and in which block": places,
        "and exactly which layers": np.hstack([places, chosen]),
    }


def explained(found: Allocations) -> list[Explained]:
    """What each of the descriptions explains of the losses."""
    losses = found.centred
    others = (losses.sum() - losses) / (len(losses) - 1)
    made = []
    for name, numbers in descriptions(found).items():
        predicted = cross_val_predict(_ridge(), numbers, losses, cv=LeaveOneOut())
        r2 = 1 - ((losses - predicted) ** 2).sum() / ((losses - others) ** 2).sum()
        made.append(Explained(name, float(r2), float(losses.std(ddof=1) * max(r2, 0) ** 0.5)))
    return made


def effects(found: Allocations) -> np.ndarray:
    """By how many nats LoRA in a layer lowers the loss [layers], by a ridge regression whose inputs say which layers
    had LoRA."""
    fitted = Ridge(_strength(found)).fit(found.chosen, found.centred)
    result: np.ndarray = -fitted.coef_
    return result


def agreement(score: np.ndarray, found: Allocations) -> tuple[float | None, float | None]:
    """Spearman correlations of a score of the layers [layers]: with their effects, and with the trainings' losses.

    The score of a training is the sum over the layers that had LoRA; the sign of the second correlation is such that
    1 means that the score orders the trainings rightly. A correlation is None if the score is the same everywhere.
    """
    trainings = found.chosen @ score
    return _spearman(score, effects(found)), _spearman(trainings, -found.centred)


def _spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one, other).statistic)


def _ridge() -> Pipeline:
    return make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS))


def _strength(found: Allocations) -> float:
    return float(RidgeCV(_STRENGTHS).fit(found.chosen, found.centred).alpha_)
