"""Some of many points, evenly spread."""

import itertools

import pytest

from autolora.engine.run.spread import spread


@pytest.mark.parametrize(("count", "most"), [(1, 2), (2, 2), (3, 2), (10, 10), (11, 10), (1000, 7), (5, 100)])
def test_the_first_and_the_last_are_always_there(count: int, most: int) -> None:
    found = spread(count, most)
    assert len(found) == len(set(found)) == min(count, most)
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, count - 1)
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert not gaps or max(gaps) - min(gaps) <= 1
