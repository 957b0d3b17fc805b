"""The test of learned ranks against their shuffle; it looks at the pairs only at fixed numbers of
them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from scipy import stats

from autolora.engine.measure.evidence import ONE_SIDED, SEEN

Ending = Literal["matter", "worse", "equal", "undecided"]


FEWEST = 8
"""The first look of every plan: with fewer pairs the sign-flip test could never be sure enough."""
Plan = Mapping[int, float]
"""At how many pairs a verdict may end -> the highest chance, in each direction, that this look
finds a difference where there is none; over all looks it is 0.025. The last look is the most pairs
that are trained.

The sign-flip test keeps to it for new seeds on the same rows. The interval also counts the spread
over rows, and so keeps to it for new rows, too."""
PLANS: Mapping[int, Plan] = {
    8: {FEWEST: 0.025},
    16: {FEWEST: 0.008, 16: 0.017},
    24: {FEWEST: 0.004, 16: 0.006, 24: 0.015},
}
"""`verdict.pairs` -> the plan of a verdict, made before the first pair is trained."""
EQUAL_WITHIN = 0.02
"""A difference is slight if its interval stays within this part of LoRA's gain, above and below
0."""
_FLIPS = 2**16
"""All ways to flip the signs of 16 pairs; of more pairs so many are drawn."""


@dataclass(frozen=True)
class Pairs:
    """What the pairs and the head have shown, in nats per label.

    `differences` [pairs]: the loss of the other arm (such as the shuffle) minus that of the learned
    ranks, above 0 where the learned ones are better. `row_error`: the standard error of their mean
    over the held-out rows. `gain`: what LoRA at the learned ranks gains over the head alone, with
    its standard error over rows and seeds.
    """

    differences: np.ndarray
    row_error: float
    gain: float
    gain_error: float

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.differences)

    @property
    def mean(self) -> float:
        """The mean difference."""
        return float(self.differences.mean())

    @property
    def learned(self) -> bool:
        """Whether LoRA at the learned ranks gains something that shows on these rows."""
        return self.gain > SEEN * self.gain_error

    @property
    def worthless(self) -> bool:
        """Whether LoRA gains nothing that shows on these rows, neither at the learned ranks nor at
        the other arm's.

        Two seeds of the head may lie close together by luck. Where their spread is most of the
        gain's error, a gain of 0 is therefore called sure in 8 to 13 % of verdicts, not in 2.3 %.
        That trains further pairs, whose difference must pass its own test. A t quantile for so few
        seeds would be worse: it would end 20 to 37 % of the verdicts in which LoRA gains 8 times
        the head's standard deviation after eight pairs, as worthless.
        """
        return max(self.gain, self.gain - self.mean) <= SEEN * self.gain_error

    @property
    def slight(self) -> bool:
        """Whether the 95 % interval of the difference lies within 2 % of the gain, above and below
        0. The 2 % are taken of the lower end of the gain's interval, so that a gain that was
        overestimated by luck does not widen the margin."""
        low, high = self.interval()
        margin = EQUAL_WITHIN * (self.gain - ONE_SIDED * self.gain_error)
        return -margin < low and high < margin

    def interval(self, beyond: float = 0.025) -> tuple[float, float]:
        """The t interval of the mean difference over seeds and rows, sqrt(SE_pairs^2 + SE_rows^2),
        with a chance of `beyond` on either side of it (95 % unless given)."""
        spread = self.differences.std(ddof=1) / self.count**0.5 if self.count > 1 else np.inf
        reach = _quantile(beyond, max(self.count - 1, 1)) * float(np.hypot(spread, self.row_error))
        return self.mean - reach, self.mean + reach

    def p(self) -> float:
        """The one-sided p of the sign-flip test, in the direction of the mean difference."""
        return one_sided(self.differences)


def ending(pairs: Pairs, plan: Plan) -> Ending:
    """What a look at these pairs decides; "undecided" at numbers of pairs at which the plan has no
    look, if LoRA gains nothing in either arm, and if a loss is not finite.

    A sure difference is told at every look, however slight it is. "equal" is not tested at the
    first of several looks, as eight pairs may agree by luck.
    """
    known = np.isfinite([*pairs.differences, pairs.row_error, pairs.gain, pairs.gain_error]).all()
    if not known or pairs.count not in plan or pairs.worthless:
        return "undecided"
    low, high = pairs.interval(plan[pairs.count])
    if not low <= 0 <= high and pairs.p() <= plan[pairs.count]:
        return "matter" if low > 0 else "worse"
    may_be_equal = pairs.count > FEWEST or pairs.count == max(plan)
    return "equal" if pairs.slight and may_be_equal else "undecided"


def first_ending(
    plan: Plan, count: int, up_to: Callable[[int], Pairs]
) -> tuple[Ending, int] | None:
    """The ending of the first look that decides, and its number of pairs; None if no look at up to
    `count` pairs does.

    `up_to(n)` gives the first n pairs.
    """
    for look in plan:
        if look <= count and (said := ending(up_to(look), plan)) != "undecided":
            return said, look
    return None


def one_sided(differences: np.ndarray) -> float:
    """The one-sided p of the sign-flip test, in the direction of the mean: how often a mean is so
    far from 0.

    Its null hypothesis: every difference [pairs] is as likely to be + as to be -. Up to 16 pairs it
    counts all flips; for more pairs random ones (always the same), with p = (b + 1) / (n + 1).
    """
    if len(differences) < 2:  # scipy takes two or more
        return 0.5
    direction: Any = "greater" if differences.mean() > 0 else "less"
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        alternative=direction,
        n_resamples=_FLIPS,
        batch=4096,
        rng=np.random.default_rng(0),
        vectorized=True,
    )
    return float(found.pvalue)


@cache
def _quantile(beyond: float, freedom: int) -> float:
    """The value that a t variable with `freedom` degrees of freedom exceeds with the chance
    `beyond`."""
    return float(stats.t.isf(beyond, freedom))
