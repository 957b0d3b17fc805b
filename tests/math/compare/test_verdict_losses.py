"""What the trainings of a verdict have shown: means over labels, the gain at the same seeds, errors
by row."""

import dataclasses

import numpy as np
import pytest

from autolora.engine.verdict.record import PairLosses

WEIGHTS = np.array([1.0, 1.0, 2.0, 4.0])
LEARNED = np.array([[1.0, 2, 2, 3], [2.0, 2, 2, 2], [1.0, 1, 1, 1]])
SHUFFLED = LEARNED + np.array([[1.0, 1, 2, 4], [0.0, 0, 0, 0], [-1.0, 1, 0, 0]])
HEAD = np.array([[4.0, 4, 8, 16], [6.0, 6, 12, 24]])


@pytest.fixture
def found() -> PairLosses:
    losses = {"learned": LEARNED, "shuffled": SHUFFLED, "uniform": LEARNED - WEIGHTS}
    return PairLosses(losses, WEIGHTS, np.arange(4), HEAD, {})


def test_the_rows_of_one_source_count_as_one(found: PairLosses) -> None:
    together = dataclasses.replace(found, sources=np.array([1, 0, 1, 2]))
    rows = (SHUFFLED - LEARNED).mean(axis=0)
    sums = np.array([rows[0] + rows[2], rows[1], rows[3]])
    weights = np.array([3.0, 1.0, 4.0])
    rest = sums - weights * rows.sum() / 8
    assert together.pairs().row_error == pytest.approx(np.sqrt((rest**2).sum() * 3 / 2) / 8)
    assert together.pairs().mean == found.pairs().mean


def test_a_difference_is_nats_a_label_above_0_where_the_learned_ranks_are_better(
    found: PairLosses,
) -> None:
    np.testing.assert_allclose(found.pairs().differences, [1, 0, 0])
    np.testing.assert_allclose(found.pairs(2).differences, [1, 0])
    np.testing.assert_allclose(found.pairs(1, "uniform").differences, [-1])
    np.testing.assert_allclose(found.means(LEARNED), LEARNED.sum(axis=1) / 8)


def test_the_gain_is_over_all_seeds_of_the_judged_pairs_and_its_error_over_rows_and_seeds(
    found: PairLosses,
) -> None:
    for count in (2, 3):
        rows = HEAD.mean(axis=0) - LEARNED[:count].mean(axis=0)
        assert found.pairs(count).gain == pytest.approx(rows.sum() / 8)
        rest = rows - WEIGHTS * rows.sum() / 8
        of_rows = (rest**2).sum() * 4 / 3 / 8**2
        of_seeds = [(x.sum(axis=1) / 8).var(ddof=1) / len(x) for x in (LEARNED[:count], HEAD)]
        assert found.pairs(count).gain_error == pytest.approx(np.sqrt(of_rows + sum(of_seeds)))
    one = dataclasses.replace(found, head=HEAD[:1]).pairs(1)
    assert np.isfinite(one.gain_error), "one seed shows no spread"


def test_the_error_of_the_rows_is_that_of_the_mean_difference_over_the_pairs(
    found: PairLosses,
) -> None:
    rows = (SHUFFLED - LEARNED).mean(axis=0)
    rest = rows - WEIGHTS * rows.sum() / 8
    assert found.pairs().row_error == pytest.approx(np.sqrt((rest**2).sum() * 4 / 3) / 8)
    # Rows that differ as much as they weigh have no spread.
    assert found.pairs(arm="uniform").row_error == pytest.approx(0)
