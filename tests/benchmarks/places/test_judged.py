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
    measured = [
        judge({"x": PLANTED}, planted(PLANTED + 1e-9 * seed, noise=0.1, allocations=60, seeds=(seed,)))["x"]
        for seed in range(1, 4)
    ]
    for one in measured:
        assert one.losses_error == pytest.approx(60**-0.5, rel=0.5)


def test_a_random_score_is_behind_by_more_than_its_error_and_a_copy_is_level() -> None:
    random = np.random.default_rng(5).standard_normal(len(LAYERS))
    found = judge({"right": PLANTED, "copy": 2 * PLANTED, "random": random}, planted(PLANTED, noise=0.02))
    assert found["copy"].behind == pytest.approx(0, abs=1e-12)
    behind, error = found["random"].behind, found["random"].behind_error
    assert behind is not None
    assert error is not None
    assert behind > 2 * error > 0


def test_a_score_that_tells_no_allocations_apart_has_no_correlation() -> None:
    found = judge({"none": np.zeros(len(LAYERS)), "right": PLANTED}, planted(PLANTED))["none"]
    assert (found.effects, found.effects_error, found.losses, found.behind) == (None, None, None, None)


def test_equal_effects_do_not_favour_cheap_layers() -> None:
    """All allocations cost the same, and every layer is worth the same: the score that prefers cheap layers must not
    agree with the effects more than by chance, as what the regression makes of each is compared."""
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
    judged = judge({"equal": np.ones(len(LAYERS)), "cheap first": -costs.astype(float)}, type(found)(table, {}))
    assert judged["equal"].losses == pytest.approx(1.0)
    assert judged["equal"].effects == pytest.approx(1.0)
