"""A rank by threshold is decided where it does not change any more at the end of the search."""

import numpy as np
import pytest

from autolora.engine.ranks.threshold import steady_layers


@pytest.fixture
def alpha() -> np.ndarray:
    """40 points of three layers with two components: far apart; crossing lambda four points before the end; crossing
    it before the last quarter."""
    points = np.arange(40)
    firsts = np.stack([np.full(40, 0.8), np.where(points < 36, 0.5, 0.6), np.where(points < 30, 0.5, 0.6)], axis=1)
    return np.stack([firsts, 1 - firsts], axis=2)


def test_a_rank_is_steady_if_it_is_the_same_in_the_last_quarter(alpha: np.ndarray) -> None:
    assert steady_layers(list(alpha), "softmax") == [True, False, True]
    assert steady_layers(list(alpha[:35]), "softmax") == [True, True, False]


def test_a_short_search_decides_nothing(alpha: np.ndarray) -> None:
    assert steady_layers(list(alpha[:31]), "softmax") == [False] * 3
