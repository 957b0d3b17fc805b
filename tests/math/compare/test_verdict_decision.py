"""The test of a verdict: its p by enumeration, its endings, and how often it errs in thousands of
simulated ones."""

from collections import Counter
from functools import cache

import numpy as np
import pytest
from scipy import stats

from autolora.engine.verdict import judge
from autolora.engine.verdict.judge import (
    FEWEST,
    PLANS,
    Pairs,
    Plan,
    ending,
    first_ending,
    one_sided,
)

LONGEST = PLANS[24]
VERDICTS = 4_000


def drawn(mean: float, spread: float, count: int) -> np.ndarray:
    """The same normal differences in whatever order the tests run."""
    return np.random.default_rng(7).normal(mean, spread, count)


def pairs_of(
    differences: np.ndarray, row_error: float = 0.0, gain: float = 1.0, gain_error: float = 0.01
) -> Pairs:
    return Pairs(np.asarray(differences, dtype=float), row_error, gain, gain_error)


def by_all_flips(differences: np.ndarray) -> float:
    """The one-sided p in the direction of the mean, by all flips of up to 16 pairs, or 20,000 drawn
    ones."""
    signs = _flips(len(differences))
    sums = np.sign(differences.sum()) * (signs @ differences)
    seen = abs(differences.sum())
    extra = len(differences) > 16  # the p of drawn flips is never 0
    return float(((sums >= seen - 1e-9).sum() + extra) / (len(signs) + extra))


@cache
def _flips(pairs: int) -> np.ndarray:
    if pairs <= 16:
        return 1.0 - 2.0 * (np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1)
    return np.random.default_rng(1).choice([-1.0, 1.0], size=(20_000, pairs))


@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_p_is_the_share_of_all_sign_flips(count: int) -> None:
    for differences in (drawn(0.3, 1, count), -drawn(0.3, 1, count)):
        assert one_sided(differences) == pytest.approx(by_all_flips(differences), rel=1e-12)


def test_eight_of_eight_is_one_in_256_and_equal_differences_are_ties() -> None:
    assert one_sided(np.full(8, 0.1)) == one_sided(-np.arange(1.0, 9)) == 1 / 256
    assert one_sided(np.full(16, 0.1)) == 1 / 2**16, "the most pairs of which all flips are counted"
    assert one_sided(np.zeros(8)) == 1


def test_p_of_many_pairs_is_drawn_always_alike_and_never_0() -> None:
    differences = drawn(0.4, 1, 24)
    z = differences.sum() / np.sqrt((differences**2).sum())
    assert one_sided(differences) == pytest.approx(stats.norm.sf(z), abs=0.01)
    assert (
        one_sided(differences)
        == one_sided(differences)
        == pytest.approx(by_all_flips(differences), abs=0.01)
    )
    assert one_sided(np.ones(24)) == one_sided(-np.ones(24)) == 1 / (2**16 + 1)


def test_the_interval_joins_the_spreads_of_pairs_and_of_rows() -> None:
    differences = drawn(0.5, 0.2, 8)
    alone = pairs_of(differences).interval()
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    np.testing.assert_allclose(alone, expected)
    joined = pairs_of(differences, row_error=0.3).interval()
    error = np.hypot(differences.std(ddof=1) / 8**0.5, 0.3)
    np.testing.assert_allclose(
        joined, differences.mean() + np.array([-1, 1]) * stats.t.ppf(0.975, 7) * error
    )


def test_a_gain_was_learned_above_two_of_its_standard_errors() -> None:
    assert pairs_of(CLEAR, gain=0.021, gain_error=0.01).learned
    assert not pairs_of(CLEAR, gain=0.02, gain_error=0.01).learned


CLEAR = np.linspace(0.9, 1.1, 24)
TINY = np.tile([-0.01, 0.01], 12)
ENDINGS = {
    "one of eight is the other way": (pairs_of([*CLEAR[:7], -0.1]), "undecided"),
    "the rows are too few to tell": (pairs_of(CLEAR[:8], row_error=1.0), "undecided"),
    "no difference at 16": (pairs_of(TINY[4:20]), "equal"),
    "no difference at 24": (pairs_of(TINY), "equal"),
    "surely worse, by less than 2 % of the gain": (pairs_of(-0.01 * CLEAR), "worse"),
    "no difference, but rows that could hide one": (
        pairs_of(TINY[4:20], row_error=0.02),
        "undecided",
    ),
    "clearly better at 16": (pairs_of(CLEAR[:16]), "matter"),
    "clearly worse at 24": (pairs_of(-CLEAR), "worse"),
    "between two looks": (pairs_of(CLEAR[:11]), "undecided"),
    "too few pairs": (pairs_of(CLEAR[:7]), "undecided"),
    "LoRA gains nothing in either arm": (
        pairs_of(CLEAR[:8], gain=0.01, gain_error=0.006),
        "undecided",
    ),
    "LoRA gains at the shuffled ranks alone": (
        pairs_of(-CLEAR[:8], gain=0.01, gain_error=0.006),
        "worse",
    ),
    "a gain that may be luck": (
        pairs_of(0.01 * TINY[:16], gain=0.01, gain_error=0.0049),
        "undecided",
    ),
    "the same gain, surely": (pairs_of(0.01 * TINY[:16], gain=0.01, gain_error=0.0001), "equal"),
    "a loss is not finite": (pairs_of([*CLEAR[:7], np.nan]), "undecided"),
    "the error of the rows is not known": (pairs_of(CLEAR[:8], row_error=np.inf), "undecided"),
    "LoRA makes it worse": (pairs_of(TINY, gain=-1.0), "undecided"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_an_ending(case: str) -> None:
    pairs, expected = ENDINGS[case]
    assert ending(pairs, LONGEST) == expected


def test_the_first_look_that_decides_counts() -> None:
    differences = np.array([*CLEAR[:8], *-3 * CLEAR[8:]])
    assert first_ending(LONGEST, 24, lambda count: pairs_of(differences[:count])) == ("matter", 8)
    assert first_ending(LONGEST, 7, lambda count: pairs_of(differences[:count])) is None
    assert first_ending(LONGEST, 20, lambda count: pairs_of(TINY[4 : count + 4])) == ("equal", 16)


@pytest.mark.parametrize(
    ("differences", "endings"),
    [
        (CLEAR[:8], ("matter", "matter", "matter")),
        (-CLEAR[:8], ("worse", "worse", "worse")),
        # Two of 256 ways to flip the signs give a mean as large: p is 0.0078.
        ([*np.linspace(0.5, 0.6, 7), -0.01], ("matter", "matter", "undecided")),
        # Three do: p is 0.012, enough for the only look, not for the first of two.
        ([*np.linspace(0.5, 0.6, 7), -0.51], ("matter", "undecided", "undecided")),
        (TINY[:8], ("equal", "undecided", "undecided")),
        (0.01 * CLEAR[:8], ("matter", "matter", "matter")),
    ],
)
def test_after_eight_pairs_a_plan_of_fewer_pairs_asks_for_less(
    differences: np.ndarray, endings: tuple[str, str, str]
) -> None:
    assert tuple(ending(pairs_of(differences), PLANS[most]) for most in (8, 16, 24)) == endings


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sign-flip test by its oracle: scipy's takes half a second for 16 pairs."""
    monkeypatch.setattr(judge, "one_sided", by_all_flips)


def simulated(effect: float, gain: float, rows: float, verdicts: int, plan: Plan) -> Counter[str]:
    """Endings of verdicts whose pairs differ by N(effect, 1), with one error of the rows, N(0,
    rows^2), in all of them."""
    generator = np.random.default_rng(0)
    found = Counter[str]()
    for _ in range(verdicts):
        differences = (
            effect + rows * generator.standard_normal() + generator.standard_normal(max(plan))
        )
        said = first_ending(
            plan, max(plan), lambda count, d=differences: pairs_of(d[:count], rows, gain)
        )  # type: ignore[misc]
        found[said[0] if said else "undecided"] += 1
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("plan", PLANS.values())
@pytest.mark.parametrize(
    ("effect", "rows", "wrong"),
    [(0, 0.25, {"matter", "worse"}), (0.02 * 50, 0.0, {"equal"})],
    ids=["a difference where there is none", "none where there is one of 2 % of the gain"],
)
def test_at_most_one_verdict_in_twenty_sees(
    effect: float, rows: float, wrong: set[str], plan: Plan
) -> None:
    found = simulated(effect, 50, rows, VERDICTS, plan)
    assert 0 < sum(found[ending] for ending in wrong) <= 0.05 * VERDICTS


@pytest.mark.parametrize("plan", PLANS.values())
def test_the_levels_add_up_to_one_in_forty_in_each_direction(plan: Plan) -> None:
    assert sum(plan.values()) == pytest.approx(0.025)
    assert list(plan) == list(range(FEWEST, max(plan) + 1, FEWEST))


@pytest.mark.parametrize(("count", "apart"), [(16, 2.96), (24, 2.5)])
def test_later_looks_have_levels_of_their_own(count: int, apart: float) -> None:
    """So many standard errors are beyond the look's own level, not beyond that of the look before
    it."""
    before = LONGEST[count - 8]
    level = LONGEST[count]
    assert stats.t.isf(level, count - 1) < apart < stats.t.isf(before, count - 1)
    differences = np.tile([-1.0, 1.0], count // 2)
    differences += apart * differences.std(ddof=1) / count**0.5
    assert ending(pairs_of(differences), LONGEST) == "matter"
    assert ending(pairs_of(-differences), LONGEST) == "worse"
