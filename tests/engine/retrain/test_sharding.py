"""The retraining's batches among several processes: together they are those of one."""

from typing import Any

import pytest
import torch
from datasets import Dataset

from autolora.engine.retrain.sharding import shared_batches
from autolora.problems.data import LengthGroupedOrder
from autolora.problems.machine.processes import Processes

ROWS, BATCH = 11, 4


def order() -> LengthGroupedOrder:
    return LengthGroupedOrder(list(range(ROWS)), BATCH, seed=3)


def batches(epoch: int) -> list[list[int]]:
    """Those of one process: Trainer's loader cuts the rows in order into batches."""
    made = order()
    made.set_epoch(epoch)
    rows = list(made)
    return [rows[i : i + BATCH] for i in range(0, ROWS, BATCH)]


def loader(rank: int, size: int, labels: list[Any] | None = None) -> Any:
    rows = Dataset.from_dict({"number": list(range(ROWS)), "labels": labels or [0] * ROWS})

    def collate(part: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor([row["number"] for row in part])}

    return shared_batches(rows, order(), collate, Processes(rank, size))


@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_of_a_batch_are_disjoint_and_make_it_whole(size: int) -> None:
    expected = batches(0)
    parts = [list(loader(rank, size)) for rank in range(size)]
    assert [len(p) for p in parts] == [len(expected)] * size
    for i, batch in enumerate(expected):
        numbers = [p[i]["number"].tolist() for p in parts]
        assert sorted(n for part in numbers for n in part) == sorted(batch)
        assert [float(p[i]["share"]) for p in parts] == pytest.approx([len(n) / len(batch) for n in numbers])
        assert all(p[i]["share"].shape == () for p in parts)


def test_a_share_counts_labels_not_rows() -> None:
    """A sentence of three labels weighs three times one of a single label."""
    labels = [[0, 0, 0, -100] if number % 2 else [0, -100, -100, -100] for number in range(ROWS)]
    parts = [list(loader(rank, 2, labels)) for rank in range(2)]
    for i, batch in enumerate(batches(0)):
        counts = [sum(3 if n % 2 else 1 for n in p[i]["number"].tolist()) for p in parts]
        whole = sum(3 if n % 2 else 1 for n in batch)
        assert [float(p[i]["share"]) for p in parts] == pytest.approx([c / whole for c in counts])


def test_who_would_have_no_row_gets_one_that_counts_nothing() -> None:
    parts = [list(loader(rank, 5)) for rank in range(5)]
    for i in range(len(parts[0])):
        shares = [float(p[i]["share"]) for p in parts]
        assert shares.count(0.0) >= 1
        assert sum(shares) == pytest.approx(1)
        assert all(len(p[i]["number"]) == 1 for p in parts)


def test_the_epoch_that_trainer_sets_decides_the_order() -> None:
    def numbers(made: Any) -> list[list[int]]:
        return [batch["number"].tolist() for batch in made]

    first = loader(0, 1)
    zero = numbers(first)
    first.set_epoch(1)
    one = numbers(first)
    assert (zero, one) == (batches(0), batches(1))
    assert zero != one
    resumed = loader(0, 1)
    resumed.batch_sampler.set_epoch(1)  # what Trainer does after it has skipped batches
    assert numbers(resumed) == one
