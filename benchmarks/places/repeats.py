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
    common, variance = _common(several)
    generator = np.random.default_rng(0)
    drawn = [_common(several[generator.integers(0, len(several), len(several))])[0] for _ in range(DRAWN)]
    low, high = np.sqrt(np.clip(np.percentile(drawn, [5, 95]), 0, None)).tolist()
    seeds = float((~np.isnan(several)).sum(axis=1).mean())
    reliability = seeds * common / (variance + (seeds - 1) * common)
    return Repeats(len(several), max(common, 0.0) ** 0.5, (low, high), common / variance, max(reliability, 0.0))


def _common(losses: np.ndarray) -> tuple[float, float]:
    """The mean covariance of two seeds' losses [allocations, seeds] over the pairs of seeds, and the mean variance."""
    covariances, variances = [], []
    for one, other in itertools.combinations(losses.T, 2):
        both = ~np.isnan(one + other)
        if both.sum() > 1:
            matrix = np.cov(one[both], other[both])
            covariances.append(matrix[0, 1])
            variances.append((matrix[0, 0] + matrix[1, 1]) / 2)
    return float(np.mean(covariances)), float(np.mean(variances))


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
