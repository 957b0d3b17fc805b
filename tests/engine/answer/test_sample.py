"""The rows that judge a search: batches that no half shares, and statistics in the order of the rows."""

import pytest
import torch

from engine.answer.sample import LEAST_BATCHES
from engine.run.interrupt import Interrupted, StopRequest
from problems.machine.processes import Processes
from tests.helpers.branches import planted, sample_of, searched


@pytest.mark.parametrize("rows", [8, 41, 200, 1000])
def test_random_batches_hold_every_row_once_and_never_rows_of_both_halves(rows: int) -> None:
    sample = sample_of(torch.zeros(rows, 1, 1), torch.zeros(rows, dtype=torch.long))
    batches = sample.random_batches(16)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert len(batches) >= min(LEAST_BATCHES, rows)
    assert max(map(len, batches)) <= 16
    for batch in batches:
        assert len({bool(sample.first_half[row]) for row in batch}) == 1


def test_statistics_are_those_of_the_rows_at_each_point() -> None:
    model, inputs, labels = planted(branches=2, needed=(0,), rows=30, seed=0)
    found = searched(model)
    told: list[int] = []
    sample = sample_of(inputs, labels, batch=7, advance=told.append)
    on, off = found.all(), found.all() & False
    statistics, weights = sample.statistics(model, [found.cut(off), found.cut(on)])
    assert sum(told) == 2 * 30
    assert weights.tolist() == [1.0] * 30
    for place, mask in enumerate((off, on)):
        with torch.no_grad(), found.gates.open(mask.float()):
            logits = model(x=inputs).logits
        expected, _ = sample.likelihood.statistics(logits, labels)
        assert torch.allclose(statistics[place], expected.double(), atol=1e-5)


def test_several_processes_share_the_batches() -> None:
    batches = [[i] for i in range(20)]
    taken = []
    for rank in range(3):
        sample = sample_of(torch.zeros(20, 1, 1), torch.zeros(20, dtype=torch.long), processes=Processes(rank, 3))
        taken += [number for number, _, _ in sample.own(batches)]
    assert sorted(taken) == list(range(20))


def test_a_signal_stops_between_two_batches() -> None:
    stop = StopRequest()
    stop.code = 143
    sample = sample_of(torch.zeros(4, 1, 1), torch.zeros(4, dtype=torch.long), stop=stop)
    with pytest.raises(Interrupted):
        next(sample.own([[0], [1]]))


def test_some_of_the_rows_are_told_to_nobody() -> None:
    told: list[int] = []
    model, inputs, labels = planted(branches=2, needed=(0,), rows=30, seed=0)
    some = sample_of(inputs, labels, advance=told.append).some(5)
    some.statistics(model)
    assert (len(some.rows), told) == (5, [])
