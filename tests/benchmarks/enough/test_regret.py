"""The regret of the rank that a search calls enough, by hand."""

import numpy as np
import pytest

from autolora.configs.errors import UserError
from benchmarks.enough.regret import regret_of
from tests.helpers.regret_table import table


def test_regret_is_the_loss_above_the_best_rank_over_the_gain() -> None:
    found = regret_of("a", table([1, 2, 4]))
    assert found is not None
    assert found.best == 2
    assert found.gain == pytest.approx(0.5)
    np.testing.assert_allclose(found.regrets(), [0.2, 0.0, 0.04], atol=1e-12)
    np.testing.assert_allclose(found.found_regrets(), [0.02, 0.02, 0.02], atol=1e-12)
    assert found.mean_parameters() == pytest.approx((100 + 200 + 400) / 3)


def test_a_search_that_learned_nothing_is_retrained_at_rank_1() -> None:
    found = regret_of("a", table([None]))
    assert found is not None
    assert (found.enough, found.taken) == ([None], [1])
    np.testing.assert_allclose(found.regrets(), [0.2], atol=1e-12)
    both = regret_of("a", table([None, 4]))
    assert both is not None
    assert both.mean_parameters() == (100 + 400) / 2, "rank 1 costs something, too"


def test_a_seed_without_a_search_or_with_a_rank_missing_is_left_out() -> None:
    whole = table([2, 2, 4])
    part = whole[
        ~((whole["seed"] == 1) & (whole["rank"] == 4)) & ~((whole["seed"] == 2) & (whole["method"] == "autolora"))
    ]
    found = regret_of("a", part)
    assert found is not None
    assert found.enough == [2]
    assert regret_of("a", whole[whole["method"] != "autolora"]) is None
    assert regret_of("a", whole[whole["method"] != "head"]) is None


def test_where_the_head_alone_is_best_there_is_no_regret() -> None:
    found = regret_of("a", table([1, 2], {0: 0.5, 1: 0.6, 2: 0.7}))
    assert found is not None
    assert found.best == 0
    assert np.isnan(found.regrets()).all()


def test_a_rank_that_was_not_trained_is_named() -> None:
    with pytest.raises(UserError, match="a: nothing was trained at rank 8; trained: 0, 1, 2, 4"):
        regret_of("a", table([8]))


def test_at_twice_the_rank_counts_only_searches_that_name_a_rank_below_the_largest() -> None:
    found = regret_of("a", table([1, None, 2, 4]))
    assert found is not None
    np.testing.assert_allclose(found.regrets_at(1), [0.2, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.regrets_at(2), [0.0, 0.04], atol=1e-12)
    np.testing.assert_allclose(found.regrets_at(8), [0.04, 0.04], atol=1e-12)
    assert found.untrained_at(2) == []


def test_a_multiple_at_which_nothing_was_trained_is_told() -> None:
    found = regret_of("a", table([1, 4, 8], {0: 1.0, 1: 0.6, 4: 0.5, 8: 0.52}))
    assert found is not None
    assert found.untrained_at(2) == [2]
    assert found.untrained_at(4) == []
    np.testing.assert_allclose(found.regrets_at(4), [0.0, 0.04], atol=1e-12)
