"""The order of rows, batches and masks that follow from a seed, and each process's part of a
batch."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from autolora.configs.schema import RunConfig
from autolora.problems.batches import Batch, Batches, epoch_batches, local_parts
from autolora.problems.machine.draws import seed_of
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.load import load_tokenizer
from autolora.problems.tasks import make_task
from autolora.problems.tasks.preparation import prepare
from tests.helpers.encoded import encoded


def test_a_seed_is_the_same_on_every_machine_and_another_for_other_parts() -> None:
    assert seed_of(3, "masks", 7, 0, 1) == 5827876155872280437
    parts = [
        (seed, name, step) for seed in range(3) for name in ("a", "b", "1") for step in range(3)
    ]
    found = {seed_of(*of) for of in [*parts, (1, 23), (12, 3), (1, 2), (1, "2")]}
    assert len(found) == len(parts) + 4
    assert all(0 <= seed < 2**63 for seed in found), "each is a seed of torch"


LENGTHS = [int(n) for n in np.random.default_rng(0).integers(3, 60, size=103)]


def test_every_row_comes_once_an_epoch_and_the_order_depends_on_seed_and_epoch_alone() -> None:
    epochs = [epoch_batches(LENGTHS, 8, 5, epoch) for epoch in (0, 1)]
    torch.manual_seed(99)
    assert epoch_batches(LENGTHS, 8, 5, 1) == epochs[1] != epochs[0]
    assert epoch_batches(LENGTHS, 8, 6, 0) not in epochs, "the loader of D_val has the next seed"
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(len(LENGTHS)))
        assert Counter(map(len, batches)) == {8: 12, 7: 1}


def test_a_training_s_short_batch_is_the_last_and_the_others_keep_their_order() -> None:
    for epoch in range(4):
        planned, found = (
            epoch_batches(LENGTHS, 8, 5, epoch, short_last=last) for last in (False, True)
        )
        assert found == sorted(planned, key=lambda batch: len(batch) < 8)


CPU = torch.device("cpu")


def batches_of_rows(processes: Processes = ALONE) -> Batches:
    places = list(range(len(LENGTHS)))
    rows = Dataset.from_dict({"length": LENGTHS, "number": places, "labels": [0] * len(places)})

    def collate(batch: list[Any]) -> dict[str, torch.Tensor]:
        return {"n": torch.tensor([row["number"] for row in batch])}

    return Batches(encoded(rows, collate), 8, 2, CPU, processes)


def numbers(batch: Batch) -> list[int]:
    """The numbers of the rows of a batch of one part."""
    ((part, share),) = batch.parts
    assert share == 1.0
    return [int(number) for number in part["n"]]


def test_a_batch_follows_from_the_seed_and_its_number_whatever_was_drawn_before() -> None:
    """So a search that resumes needs no state of a loader, and no two batches share dropout
    masks."""
    whole = batches_of_rows()
    in_order = [whole[number] for number in range(40)]
    for number in (30, 0, 14, 12):
        one = batches_of_rows()[number]
        other = in_order[number]
        assert (numbers(one), one.seed) == (numbers(other), other.seed)
    further = [whole.drawn(step, number) for step in range(20) for number in (1, 2)]
    assert len({batch.seed for batch in (*in_order, *further)}) == 80
    assert all(len(set(numbers(batch))) == 8 for batch in further)
    assert len({tuple(numbers(batch)) for batch in further}) == 40
    assert numbers(batches_of_rows().drawn(3, 2)) == numbers(further[7])


def test_the_batches_of_an_epoch_hold_every_row_once_the_short_one_included() -> None:
    """103 rows are twelve batches of eight and one of seven."""
    batches = batches_of_rows()
    per_epoch = 13
    for epoch in range(3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        rows = [number for step in steps for number in numbers(batches[step])]
        assert sorted(rows) == list(range(len(LENGTHS)))


def test_what_a_collate_draws_follows_from_the_batch_and_leaves_the_scripts_numbers() -> None:
    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"n": torch.tensor([random.random(), np.random.rand(), float(torch.rand(1))])}

    rows = Dataset.from_dict({"length": LENGTHS})
    found = []
    for outside in (1, 2):
        torch.manual_seed(outside)
        before = (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        )
        found.append(
            [
                Batches(encoded(rows, collate), 8, 2, CPU)[number].parts[0][0]["n"].tolist()
                for number in (3, 4)
            ]
        )
        assert before == (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        )
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_a_batch_in_parts_on_several_processes_is_that_of_one() -> None:
    """The rows of all parts and processes are those of the batch, each weighed by its labels."""
    labels = [[1] * (1 + number % 3) + [-100] * (2 - number % 3) for number in range(10)]
    table = Dataset.from_dict({"labels": labels, "number": list(range(10))})
    rows = encoded(table, dict)
    weighed: dict[int, float] = {}
    for rank in range(2):
        for own, share in zip(
            *local_parts(rows, list(range(10)), 4, Processes(rank, 2)), strict=True
        ):
            count = sum(1 + row["number"] % 3 for row in own)
            weighed |= {row["number"]: share * (1 + row["number"] % 3) / count for row in own}
    whole = sum(1 + number % 3 for number in range(10))
    assert weighed == pytest.approx({number: (1 + number % 3) / whole for number in range(10)})


def test_a_process_whose_rows_have_no_label_gets_one_with_a_label_that_counts_nothing() -> None:
    table = Dataset.from_dict({"x": [0, 1], "labels": [[-100, 1, 2], [-100, -100, -100]]})
    rows = encoded(table, dict)
    ((own,), (share,)) = local_parts(rows, [0, 1], 2, Processes(1, 2))
    assert ([row["x"] for row in own], share) == ([0], 0.0)


def test_the_batches_of_all_processes_walk_together_with_masks_of_their_own() -> None:
    whole, first, second = (
        [batches_of_rows(processes)[number] for number in range(6)]
        for processes in (ALONE, Processes(0, 2), Processes(1, 2))
    )
    for batch, one, other in zip(whole, first, second, strict=True):
        parts = [part["n"] for found in (one, other) for part, _ in found.parts]
        assert sorted(torch.cat(parts).tolist()) == sorted(numbers(batch))
    assert not {batch.seed for batch in first} & {batch.seed for batch in second}


def test_evaluation_rows_are_spread_over_the_whole_file_and_the_same_for_every_seed(
    tiny_config: Callable[..., RunConfig],
) -> None:
    def ids(*arguments: str) -> list[Any]:
        config = tiny_config(*arguments)
        task = make_task(config.task, config.data_seed)
        (rows,) = prepare(task, load_tokenizer(config.model)).evaluation.values()
        return rows.examples["input_ids"][:]

    whole = ids()
    some = ids("--task.evaluation_rows", "4")
    assert some == [whole[i * len(whole) // 4] for i in range(4)]
    assert some == ids("--task.evaluation_rows", "4", "--seed", "1")
    assert ids("--task.evaluation_rows", "100000") == whole
