"""The rows of a measurement: folds and draws of whole groups."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autolora.engine.measure.rows import Rows
from tests.helpers.branches import collate, rows_of

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=60)


def rows_with(sizes: list[int]) -> Rows:
    """Rows in groups of these sizes."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    nothing: Any = None
    return Rows(nothing, nothing, np.ones(len(groups), dtype=int), groups)


@pytest.mark.parametrize("sizes", [[1] * 10, [3, 1, 4, 2], [9, 1], [1, 9]])
def test_of_two_folds_the_first_ends_at_the_group_nearest_to_the_middle(sizes: list[int]) -> None:
    fold = rows_with(sizes).folds(2)
    ends = np.cumsum(sizes)[:-1]
    assert int((fold == 0).sum()) == ends[np.abs(ends - 5).argmin()]
    assert fold.tolist() == sorted(fold)


@given(SIZES, st.integers(2, 6))
def test_folds_are_of_whole_groups_and_as_equal_as_groups_allow(sizes: list[int], count: int) -> None:
    rows = rows_with(sizes)
    fold = rows.folds(count)
    assert all(len(set(fold[rows.groups == group])) == 1 for group in range(len(sizes)))
    assert set(fold) == set(range(fold.max() + 1))
    assert fold.max() < count
    borders, ends = np.flatnonzero(np.diff(fold)) + 1, np.cumsum(sizes)[:-1]
    for place in len(rows) * np.arange(1, count) / count:
        assert np.abs(borders - place).min() == np.abs(ends - place).min()


def test_five_folds_of_single_rows_are_equal() -> None:
    assert np.bincount(rows_with([1] * 40).folds(5)).tolist() == [8] * 5
    assert rows_with([1]).folds(5).tolist() == [0]


@given(SIZES, st.integers(1, 16))
def test_draws_hold_every_row_once_and_whole_groups_of_one_fold(sizes: list[int], size: int) -> None:
    rows = rows_with(sizes)
    fold = rows.folds(5)
    draws = rows.draws(fold, size, 20)
    assert sorted(row for draw in draws for row in draw) == list(range(len(rows)))
    for draw in draws:
        groups = rows.groups[draw]
        assert len(set(fold[draw])) == 1
        assert len(draw) == np.isin(rows.groups, groups).sum()
        assert len(draw) <= size or len(set(groups)) == 1


@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 64))
def test_there_are_20_draws_if_there_are_20_groups(groups: int, each: int, size: int) -> None:
    rows = rows_with([each] * groups)
    assert len(rows.draws(rows.folds(5), size, 20)) >= min(20, groups)


def test_rows_of_one_input_are_a_group() -> None:
    """Three annotators of each text made errors too small by the root of three."""
    inputs, labels = torch.zeros(6, 1, 1), torch.zeros(6, dtype=torch.long)
    rows = Rows.of(rows_of(inputs, labels, list("abcabc")), collate)
    assert rows.groups.tolist() == [0, 1, 2, 0, 1, 2]
    assert rows.group_count == 3
    of_one = Rows.of(rows_of(inputs, labels, ["a"] * 6), collate)
    assert of_one.groups.tolist() == list(range(6)), "of one input each row is a group"


def test_rows_are_drawn_by_the_seed_and_those_of_a_group_follow_each_other() -> None:
    groups = [str(number % 10) for number in range(40)]
    data = rows_of(torch.arange(40.0).view(40, 1, 1), torch.zeros(40, dtype=torch.long), groups)
    one, again, other = (Rows.drawn(data, collate, range(5, 40), 20, seed) for seed in (0, 0, 1))
    values = [[x[0][0] for x in rows.data["x"]] for rows in (one, again, other)]
    assert values[0] == values[1] != values[2]
    assert len(set(values[0])) == 20
    assert min(values[0]) >= 5
    assert (np.diff(one.groups) >= 0).all()
    assert len(Rows.drawn(data, collate, range(5, 40), 99, 0)) == 35
