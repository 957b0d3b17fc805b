"""Batches of the rows of a regression."""

import torch

from autolora.problems.data import Batch
from benchmarks.bilevel.batches import Batches

ROWS = {"x": torch.arange(8.0)[:, None], "y": torch.arange(8.0)}


def rows_of(batch: Batch) -> list[int]:
    ((rows, share),) = batch.parts
    assert share == 1.0
    assert torch.equal(rows["x"][:, 0], rows["y"]), "x and y of one row stay together"
    return [int(number) for number in rows["y"]]


def test_without_a_size_each_batch_has_all_rows() -> None:
    batches = Batches(ROWS, None, 0)
    assert [rows_of(batch) for batch in (batches[0], batches[1], batches.drawn(5))] == [list(range(8))] * 3


def test_a_batch_draws_some_rows_without_putting_back_by_its_seed_and_number() -> None:
    given = [rows_of(Batches(ROWS, 3, 0)[number]) for number in range(50)]
    assert all(len(set(rows)) == 3 for rows in given)
    assert {row for rows in given for row in rows} == set(range(8))
    assert len(set(map(tuple, given))) > 40
    assert given != [rows_of(Batches(ROWS, 3, 1)[number]) for number in range(50)]
    batches = Batches(ROWS, 3, 0)
    assert rows_of(batches.drawn(7)) == rows_of(Batches(ROWS, 3, 0).drawn(7)) != rows_of(batches.drawn(8))
