"""Rows of one input: references of a record, copies of a text, and rows of which nothing is known."""

import numpy as np
import pytest
from datasets import Dataset

from problems.tasks.inputs import inputs_of, tokens_of


def test_copies_of_a_text_are_one_input() -> None:
    rows = Dataset.from_dict({"input_ids": [[1, 2], [3], [1, 2], [1], []], "labels": [0, 1, 1, 0, 0]})
    known = inputs_of(rows, range(5))
    assert known[0] == known[2]
    assert len(set(known)) == 4
    assert inputs_of(rows, np.array([2, 1])) == [known[2], known[1]]
    assert tokens_of(rows.select([])) == []


def test_references_of_a_record_are_one_input_whatever_their_tokens() -> None:
    rows = Dataset.from_dict({"source": ["a", "b", "a"], "input_ids": [[1], [1], [2]]})
    assert inputs_of(rows, [2, 1, 0]) == ["a", "b", "a"]


@pytest.mark.parametrize("rows", [object(), Dataset.from_dict({"pixels": [1, 1, 1]})])
def test_rows_without_tokens_are_inputs_of_their_own(rows: Dataset) -> None:
    assert inputs_of(rows, [0, 2]) == [0, 2]
