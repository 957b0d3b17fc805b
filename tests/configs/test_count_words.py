"""A number and its unit."""

import pytest

from autolora.configs.count_words import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 pairs"),
        (1, "1 pair"),
        (1.0, "1 pair"),
        (8, "8 pairs"),
        (0.5, "0.5 pairs"),
        (1.5, "1.5 pairs"),
        (5000, "5,000 pairs"),
    ],
)
def test_the_unit_is_in_the_plural_unless_there_is_one(number: float, words: str) -> None:
    assert counted(number, "pair") == words
