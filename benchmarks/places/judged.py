"""Which score of the layers foretells the trainings? Rank correlations, with errors from samples of allocations."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from benchmarks.places.allocations import Allocations
from benchmarks.places.effects import slopes, strength

DRAWN = 400
"""Samples of the allocations from which the errors are computed."""


@dataclass(frozen=True)
class Judged:
    """Spearman correlations of a score, with standard errors; None if the score tells no two of them apart.

    `effects`: with the effects of the layers. `losses`: with the losses of the allocations, where 1 means that the
    score orders the allocations rightly. `behind`: by how much `losses` is below that of the best score.
    `surely_behind`: whether it would be so with other allocations, too. Of studies in which no two scores differ, at
    most about 5 % say so of any score, however many there are.
    """

    effects: float | None
    effects_error: float | None
    losses: float | None
    losses_error: float | None
    behind: float | None = None
    behind_error: float | None = None
    surely_behind: bool = False


def judge(scores: Mapping[str, np.ndarray], trainings: Allocations) -> dict[str, Judged]:
    """Judges each score [layers].

    The score of an allocation is the sum over the layers that had LoRA. Before a score is compared with the effects,
    it passes through the same regression: what the effects would be if the layers were worth their scores. For the
    effects are relative to the layers that were displaced, and a score is not.
    """
    table = np.stack([*scores.values()], axis=1)
    chosen, mean, at = trainings.chosen, trainings.mean, strength(trainings)
    measured = _correlations(chosen, mean, table, at)
    generator, drawn = np.random.default_rng(0), []
    for _ in range(DRAWN):
        some = generator.integers(0, len(mean), len(mean))
        drawn.append(_correlations(chosen[some], mean[some], table, at))
    best = int(np.argmax(np.nan_to_num(measured[1], nan=-2.0)))
    values = [*measured, measured[1][best] - measured[1]]
    samples = np.array([[*one, one[1][best] - one[1]] for one in drawn])
    errors = np.ma.masked_invalid(samples).std(axis=0, ddof=1).filled(np.nan)
    sure = values[-1] > np.nan_to_num(errors[-1]) * _critical(samples[:, 1], measured[1])
    columns = [column for pair in zip(values, errors, strict=True) for column in pair]
    found = {}
    for place, name in enumerate(scores):
        effects, effects_error, losses, losses_error, behind, behind_error = (_number(c[place]) for c in columns)
        found[name] = Judged(
            effects, effects_error, losses, losses_error, behind, behind_error, surely_behind=bool(sure[place])
        )
    return found


def _critical(drawn: np.ndarray, measured: np.ndarray) -> float:
    """How many standard errors the largest difference between two scores must have: its 95 % point if the scores
    `measured` [scores] do not differ, from the samples `drawn` [samples, scores]. The best of several scores is ahead
    of the others by luck alone, so that the 1.64 of one difference would not do."""
    gaps = np.ma.masked_invalid(drawn[:, :, None] - drawn[:, None, :])
    gap = np.ma.masked_invalid(measured[:, None] - measured[None, :])
    errors = np.ma.masked_less(gaps.std(axis=0, ddof=1), 1e-12)  # a copy of a score is masked out
    largest = (np.ma.abs(gaps - gap) / errors).reshape(len(drawn), -1).max(axis=1).compressed()
    return float(np.percentile(largest, 95)) if len(largest) else 0.0  # all scores are copies of one


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _correlations(chosen: np.ndarray, mean: np.ndarray, scores: np.ndarray, at: float) -> np.ndarray:
    """The correlations of each score [layers, scores] with the effects and with the losses [2, scores]."""
    of_allocations = chosen @ scores
    found = slopes(chosen, np.column_stack([-mean, of_allocations]), at)
    effects, as_effects = found[:, 0], found[:, 1:]
    return np.array(
        [
            [_spearman(own, effects) for own in as_effects.T],
            [_spearman(own, -mean) for own in of_allocations.T],
        ]
    )


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    """NaN if all values of one of them are equal, to rounding."""
    if any(np.ptp(values) <= 1e-12 * np.abs(values).max() for values in (one, other)):
        return float("nan")
    return float(spearmanr(one, other).statistic)
