"""Which score foretells planted effects, and how sure that is."""

import numpy as np
import pytest

from benchmarks.places.judged import judge
from tests.helpers.allocations import LAYERS, planted

PLANTED = np.linspace(0.0, 0.05, len(LAYERS))


def test_a_score_that_is_right_agrees_and_its_opposite_does_not() -> None:
    found = judge({"right": PLANTED, "wrong": -PLANTED}, planted(PLANTED, allocations=60))
    right, wrong = found["right"], found["wrong"]
    assert (right.effects, right.losses) == pytest.approx((1.0, 1.0), abs=0.05)
    assert (wrong.effects, wrong.losses) == pytest.approx((-1.0, -1.0), abs=0.05)
    assert (right.behind, right.behind_error) == (0, 0)
    assert wrong.behind == pytest.approx(2.0, abs=0.05)


def test_layers_that_are_all_worth_the_same_are_a_score_too() -> None:
    """More layers lower the loss, where the others can spend their parameters on fewer."""
    found = judge({"count": np.ones(len(LAYERS))}, planted(np.full(len(LAYERS), 0.01), noise=0.002, allocations=60))
    assert found["count"].losses is not None
    assert found["count"].losses > 0.9


def test_the_error_is_that_of_other_allocations() -> None:
    measured = [judge({"x": PLANTED}, planted(PLANTED, noise=0.1, seed=seed))["x"] for seed in range(12)]
    told = np.mean([one.losses_error for one in measured if one.losses_error is not None])
    assert np.std([one.losses for one in measured if one.losses is not None], ddof=1) == pytest.approx(told, rel=0.5)


def test_among_many_scores_luck_makes_none_surely_behind_the_best() -> None:
    """By the error of one difference, four of five studies of noise found a loser."""
    by_one, by_all = 0, 0
    for seed in range(20):
        generator = np.random.default_rng(100 + seed)
        scores = {f"{number}": generator.standard_normal(len(LAYERS)) for number in range(9)}
        found = judge(scores, planted(np.zeros(len(LAYERS)), noise=0.01, allocations=60, seed=seed)).values()
        by_one += any((one.behind or 0) > 1.64 * (one.behind_error or 0) for one in found)
        by_all += any(one.surely_behind for one in found)
    assert by_one > 10
    assert by_all <= 3


def test_a_random_score_is_behind_by_more_than_its_error_and_a_copy_is_level() -> None:
    random = np.random.default_rng(5).standard_normal(len(LAYERS))
    found = judge({"right": PLANTED, "copy": 2 * PLANTED, "random": random}, planted(PLANTED, noise=0.02))
    assert found["copy"].behind == pytest.approx(0, abs=1e-12)
    behind, error = found["random"].behind, found["random"].behind_error
    assert behind is not None
    assert error is not None
    assert behind > 2 * error > 0
    assert found["random"].surely_behind
    assert not found["copy"].surely_behind


def test_a_score_that_tells_no_allocations_apart_has_no_correlation() -> None:
    found = judge({"none": np.zeros(len(LAYERS)), "right": PLANTED}, planted(PLANTED))["none"]
    assert (found.effects, found.effects_error, found.losses, found.behind) == (None, None, None, None)


def test_equal_effects_agree_with_the_score_that_every_layer_is_worth_the_same() -> None:
    """All allocations cost the same, so that small layers look better than large ones in the regression; what it makes
    of the score looks the same."""
    generator, costs = np.random.default_rng(1), np.array([1, 1, 4] * 4)
    found = planted(np.zeros(len(LAYERS)), allocations=60)
    rows = []
    for _ in range(60):
        chosen = np.zeros(len(LAYERS))
        for place in generator.permutation(len(LAYERS)):
            if chosen @ costs + costs[place] <= 12:
                chosen[place] = 1
        rows += [chosen, chosen]
    table = found.table.sort_values(["draw", "seed"], ignore_index=True)
    table[LAYERS] = np.array(rows, dtype=int)
    table["loss"] = -0.01 * np.array(rows).sum(axis=1)
    judged = judge({"equal": np.ones(len(LAYERS))}, type(found)(table, {}))
    assert judged["equal"].losses == pytest.approx(1.0)
    assert judged["equal"].effects == pytest.approx(1.0)
