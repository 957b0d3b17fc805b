"""Rows in the words of a warning."""

import pytest
from datasets import Dataset, NamedSplit

from autolora.problems.tasks.split_names import rows_in_words


@pytest.mark.unit
@pytest.mark.parametrize(
    ("split", "words"),
    [
        (None, "2 rows"),
        ("train", "2 training rows"),
        ("unused", "2 unused training rows"),
        ("test", "2 rows of test"),
    ],
)
def test_a_split_is_named(split: str | None, words: str) -> None:
    rows = Dataset.from_dict({"a": [1, 2]}, split=None if split is None else NamedSplit(split))
    assert rows_in_words(rows) == words
    assert rows_in_words(rows.select([0, 1])) == words
