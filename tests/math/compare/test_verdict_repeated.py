"""What is not one verdict on one search: two verdicts in a row, and a rule that chose at random."""

from collections import Counter

import numpy as np
import pytest

from autolora.engine.verdict.judge import PLANS, Pairs, first_ending

SURE = ("matter", "worse")


def ends(differences: np.ndarray, most: int, gain: float, rows: float = 0.0) -> str:
    """The ending of a verdict that plans so many pairs on the first of these differences."""
    said = first_ending(PLANS[most], most, lambda count: Pairs(differences[:count], rows, gain, 0.02 * gain))
    return said[0] if said else "undecided"


@pytest.mark.slow
def test_a_second_verdict_with_more_pairs_finds_more_that_is_not_there() -> None:
    """The pairs of the first verdict are the first ones of the second."""
    generator, found, verdicts = np.random.default_rng(0), Counter[str](), 6000
    for _ in range(verdicts):
        differences = generator.standard_normal(24)
        first, second = (ends(differences, most, gain=20) for most in (8, 24))
        found["8"] += first in SURE
        found["24"] += second in SURE
        found["both"] += first in SURE or (first == "undecided" and second in SURE)
    parts = [found[name] / verdicts for name in ("8", "24", "both")]
    assert parts == pytest.approx([0.038, 0.037, 0.065], abs=0.003), "the page tells them"
    assert found["both"] <= 0.1 * verdicts


@pytest.mark.slow
def test_a_placement_drawn_at_random_ends_in_a_sure_difference_where_placements_differ() -> None:
    """All pairs share the learned placement, so that p is not about the rule that chose it."""
    generator, found, verdicts = np.random.default_rng(0), Counter[str](), 3000
    for _ in range(verdicts):
        placed, (shuffles, noise) = generator.standard_normal(), generator.standard_normal((2, 24))
        found[ends(shuffles - placed + noise, 24, gain=50, rows=0.25)] += 1
    parts = [found[ending] / verdicts for ending in SURE]
    assert parts == pytest.approx([0.20, 0.19], abs=0.015), "the page tells them"
