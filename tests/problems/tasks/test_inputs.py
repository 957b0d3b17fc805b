"""Rows of one input: references of a record, copies of a text, and rows of which nothing is known."""

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from autolora.problems.tasks.given import GivenRows
from autolora.problems.tasks.inputs import inputs_of, texts_known, tokens_of


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


def of_script(*ids: list[int], by_text: bool) -> Any:
    return GivenRows([{"input_ids": some} for some in ids], len, by_text=by_text)


def test_copies_of_a_text_in_a_script_are_one_input() -> None:
    rows = of_script([1, 2], [3], [1, 2], by_text=True)
    first, second, third = inputs_of(rows, range(3))
    assert first == third != second
    assert inputs_of(rows, [2, 1]) == texts_known(rows.select([2, 1])) == [third, second]


@pytest.mark.parametrize("rows", [of_script([1], [1], [1], by_text=False), Dataset.from_dict({"pixels": [1, 1, 1]})])
def test_rows_whose_text_is_not_known_are_inputs_of_their_own(rows: Any) -> None:
    assert inputs_of(rows, [0, 2]) == [0, 2]
    assert texts_known(rows) is None
