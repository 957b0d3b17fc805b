"""How much the places decide, whatever the layers are: the same allocations, trained at several seeds.

What two seeds of an allocation have in common comes from its places; the rest is luck of the seed. So the covariance
between two seeds, over the allocations, is the variance that the places cause. No regression is needed.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from benchmarks.places.allocations import Allocations

FEWEST = 10
"""With fewer allocations at two seeds, nothing is estimated."""
MATTERS = 0.02
"""The sentence says whether the spread that the places cause is above or below this part of LoRA's gain."""
DRAWN = 2000
"""Samples of the allocations from which the interval is computed."""


@dataclass(frozen=True)
class Repeats:
    """`spread`: the standard deviation of the loss that the places cause, in nats, and its 90 % interval.

    `correlation`: of one seed's losses with another's, over the allocations. `reliability`: the part of the variance
    of the mean losses (over seeds) that the places cause; no description of the places can explain more.
    """

    allocations: int
    spread: float
    interval: tuple[float, float]
    correlation: float
    reliability: float


def repeats(found: Allocations) -> Repeats | None:
    """What the places cause; None if fewer than FEWEST allocations were trained at two seeds."""
    losses = found.losses.to_numpy()
    several = losses[(~np.isnan(losses)).sum(axis=1) > 1]
    if len(several) < FEWEST:
        return None
    generator = np.random.default_rng(0)
    count = len(several)
    samples = [np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(DRAWN)]
    (common, *drawn), (variance, *_) = _common(several, np.vstack([np.ones(count), *samples])).tolist()
    low, high = np.sqrt(np.clip(np.percentile(drawn, [5, 95]), 0, None)).tolist()
    # Allocations may have different numbers of seeds. The noise of a mean over n seeds is proportional to 1 / n, so
    # the number of seeds that stands for all allocations is the harmonic mean.
    seeds = 1 / float((1 / (~np.isnan(losses)).sum(axis=1)).mean())
    reliability = seeds * common / (variance + (seeds - 1) * common)
    return Repeats(count, max(common, 0.0) ** 0.5, (low, high), common / variance, max(reliability, 0.0))


def _common(losses: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The covariance of two seeds' losses and the variance, each the mean over all pairs of seeds, in every sample.

    losses [allocations, seeds], NaN for a training that is not finished; times [samples, allocations]: how often each
    allocation is in a sample. Returns [2, samples].
    """
    centred = losses - np.nanmean(losses, axis=0)  # against rounding
    covariances, variances = [], []
    for one, other in itertools.combinations(centred.T, 2):
        both = ~np.isnan(one + other)
        of = [(one, other), (one, one), (other, other)]
        found = [_covariance(x[both], y[both], times[:, both]) for x, y in of]
        covariances.append(found[0])
        variances.append((found[1] + found[2]) / 2)
    return np.nanmean([covariances, variances], axis=1)


def _covariance(one: np.ndarray, other: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The covariance of two columns of numbers, in which each row counts `times` [samples, rows]; NaN for a sample
    with fewer than two rows. Returns [samples]."""
    count = times.sum(axis=1)
    products = times @ (one * other) - (times @ one) * (times @ other) / np.maximum(count, 1)
    return np.where(count > 1, products / np.maximum(count - 1, 1), np.nan)


def in_words(found: Repeats | None, gain: float | None) -> str:
    """One sentence: how much choices of layers that are drawn at random differ, beside what LoRA gains.

    The spread is not what the best choice gains: that lies several spreads from the mean."""
    if found is None:
        return (
            f"Fewer than {FEWEST} allocations were trained at two seeds, so that the effect of the places cannot be "
            f"told from the luck of the seed."
        )
    low, high = found.interval
    if high == 0:
        return "The places cause no spread that these trainings can tell from the luck of the seed."
    said = f"The places cause a spread of {found.spread:.4f} nats ({low:.4f} to {high:.4f})"
    if not gain or gain <= 0:
        return f"{said}."
    said += f", {found.spread / gain:.1%} of LoRA's gain ({low / gain:.1%} to {high / gain:.1%})"
    if high < MATTERS * gain:
        return f"{said}: less than {MATTERS:.0%}, so that choices of layers drawn at random hardly differ."
    if low > MATTERS * gain:
        return f"{said}: more than {MATTERS:.0%}, so that some places are better than others."
    return f"{said}: these trainings cannot tell whether it is more than {MATTERS:.0%}."
