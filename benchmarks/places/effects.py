"""How far the places of LoRA explain the loss: a ridge regression, whose inputs are the layers that had LoRA, must
predict the losses of allocations that were left out of its fit."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from autolora.engine.ranks.controls import module_type
from autolora.engine.ranks.grid import grid_of
from benchmarks.places.allocations import Allocations

_STRENGTHS = np.logspace(-2, 4, 25)
"""Strengths of the ridge; each fit chooses one by leaving out one of its own allocations at a time."""


@dataclass(frozen=True)
class Explained:
    """What one description of the places explains.

    `r2`: leave-one-out R2 of the mean losses, at or below 0 if these allocations are too few to learn anything from
    the description. `spread`: the standard deviation of the loss that it explains, in nats; 0 where r2 is below 0.
    """

    described_by: str
    r2: float
    spread: float


def descriptions(found: Allocations) -> dict[str, np.ndarray]:
    """Name -> numbers that describe each allocation [allocations, numbers], from coarse to fine. Each
    except the last also contains the numbers of the one before; the last has the layers alone: `effects` uses it."""
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
        "exactly which layers, alone": chosen,
    }


def explained(found: Allocations) -> list[Explained]:
    """What each of the descriptions explains of the mean losses."""
    losses = found.mean
    others = (losses.sum() - losses) / (len(losses) - 1)
    made = []
    for name, numbers in descriptions(found).items():
        predicted = cross_val_predict(_ridge(), numbers, losses, cv=LeaveOneOut())
        r2 = 1 - ((losses - predicted) ** 2).sum() / ((losses - others) ** 2).sum()
        made.append(Explained(name, float(r2), float(losses.std(ddof=1) * max(r2, 0) ** 0.5)))
    return made


def effects(found: Allocations) -> np.ndarray:
    """By how many nats LoRA in a layer lowers the loss more than LoRA in the layers that it displaces [layers].

    All allocations cost the same, so that one layer can have LoRA only if others do without: effects are relative, and
    their mean says nothing. By a ridge regression whose inputs say which layers had LoRA.
    """
    result: np.ndarray = slopes(found.chosen, -found.mean, strength(found))
    return result


def slopes(chosen: np.ndarray, losses: np.ndarray, at: float) -> np.ndarray:
    """The slopes of a ridge regression of strength `at`: [layers], or [layers, n] for n columns of `losses`
    [allocations, n]."""
    x, y = chosen - chosen.mean(axis=0), losses - losses.mean(axis=0)
    found: np.ndarray = np.linalg.solve(x.T @ x + at * np.eye(x.shape[1]), x.T @ y)
    return found


def strength(found: Allocations) -> float:
    """The strength of the ridge, chosen by leaving out one allocation at a time."""
    return float(RidgeCV(_STRENGTHS).fit(found.chosen, found.mean).alpha_)


def _ridge() -> Pipeline:
    return make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS))
