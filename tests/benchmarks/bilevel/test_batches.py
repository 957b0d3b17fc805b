"""Batches of the rows of a regression."""

from itertools import islice

import torch

from benchmarks.bilevel.batches import Batches
from benchmarks.bilevel.ridge import Batch

ROWS = {"x": torch.arange(8.0)[:, None], "y": torch.arange(8.0)}


def rows_of(batches: list[Batch]) -> list[list[int]]:
    assert all(torch.equal(batch["x"][:, 0], batch["y"]) for batch in batches), "x and y of one row stay together"
    return [batch["y"].int().tolist() for batch in batches]


def test_without_a_size_each_batch_has_all_rows() -> None:
    batches = Batches(ROWS, None, 0)
    assert rows_of([*islice(batches, 2), *batches.draw(5)[0]]) == [list(range(8))] * 3


def test_a_batch_draws_some_rows_without_putting_back() -> None:
    given = rows_of(list(islice(Batches(ROWS, 3, 0), 50)))
    assert all(len(set(rows)) == 3 for rows in given)
    assert {row for rows in given for row in rows} == set(range(8))
    assert len(set(map(tuple, given))) > 40
    assert rows_of(list(islice(Batches(ROWS, 3, 0), 50))) == given != rows_of(list(islice(Batches(ROWS, 3, 1), 50)))


def test_a_further_batch_follows_from_its_seed_alone() -> None:
    batches = Batches(ROWS, 3, 0)
    first = rows_of(batches.draw(7)[0])
    next(iter(batches))
    assert rows_of(batches.draw(7)[0]) == first != rows_of(batches.draw(8)[0])
    assert batches.draw(7)[1] == (1.0,)
