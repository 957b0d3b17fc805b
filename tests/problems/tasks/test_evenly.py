"""Some of many rows: as many as asked for, from the first on, at equal distances."""

import pytest

from autolora.problems.tasks.evenly import evenly


@pytest.mark.parametrize(
    ("count", "most", "found"),
    [
        (10, 3, [0, 3, 6]),
        (10, 5, [0, 2, 4, 6, 8]),
        (3, 3, [0, 1, 2]),
        (2, 5, [0, 1]),
        (7, 1, [0]),
        (0, 4, []),
        (5, 0, []),
    ],
)
def test_the_rows_are_evenly_spread(count: int, most: int, found: list[int]) -> None:
    assert evenly(count, most).tolist() == found
