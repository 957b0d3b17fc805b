"""Rows of somebody's own script: any data set with a length and an index, and a collator."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import TaskType
from torch import Tensor
from torch.utils.data import ConcatDataset

from autolora.problems.batches import local_parts
from autolora.problems.machine.processes import ALONE
from autolora.problems.rows import Rows
from autolora.problems.tasks.scoring import scoring_of_script

EXAMPLES: list[dict[str, Any]] = [{"input_ids": [1] * n, "labels": n % 2} for n in (3, 1, 2)]
TENSORS = [{name: torch.tensor(value) for name, value in example.items()} for example in EXAMPLES]


def collate(examples: list[Any]) -> dict[str, Tensor]:
    return {"labels": torch.tensor([example["labels"] for example in examples])}


@pytest.mark.parametrize(
    "source", [EXAMPLES, Dataset.from_list(EXAMPLES), ConcatDataset([TENSORS])], ids=type
)
def test_rows_are_those_of_the_source(source: Any) -> None:
    rows = Rows.of_script(source, collate)
    assert (len(rows), rows.lengths.tolist(), rows.labels([0, 1, 2])) == (3, [3, 1, 2], [1, 1, 0])
    assert [int(example["labels"]) for example in rows.take([2, 0])] == [0, 1]
    some = rows.select([2, 1])
    assert (len(some), some.lengths.tolist(), some.labels([1, 0])) == (2, [2, 1], [1, 0])
    assert some.select([1]).lengths.tolist() == [1]


def test_examples_of_equal_tokens_are_one_text() -> None:
    tokens = [[1, 2], [3], [1, 2], [12], [2, 1]]
    plain: list[Any] = [{"input_ids": ids, "labels": number} for number, ids in enumerate(tokens)]
    tensors = [{name: torch.tensor(value) for name, value in example.items()} for example in plain]
    for source in (plain, Dataset.from_list(plain), tensors):
        rows = Rows.of_script(source, collate, by_text=True)
        groups = rows.groups.tolist()
        assert [groups.index(group) for group in groups] == [0, 1, 0, 3, 4]
        assert rows.lengths.tolist() == [2, 1, 2, 1, 2]
        assert rows.select([4, 2]).groups.tolist() == [groups[4], groups[2]]


def test_each_example_is_a_group_unless_its_text_is_all_that_is_read() -> None:
    for rows in (
        Rows.of_script(EXAMPLES, collate),
        Rows.of_script([*EXAMPLES, {"labels": 1}], collate, by_text=True),
        Rows.of_script([(1, 2), "text"], collate, by_text=True),
    ):
        assert rows.groups.tolist() == list(range(len(rows)))


def shares(rows: Rows, size: int) -> list[float]:
    return local_parts(rows, range(len(rows)), size, ALONE)[1]


def test_parts_of_a_language_models_batch_weigh_the_labels_that_its_loss_reads() -> None:
    """A script's labels are often the input ids themselves, and the first of them has no token
    before it."""
    rows = Rows.of_script(
        [{"labels": [5] * length} for length in (2, 2, 30, 30)], collate, shifted=True
    )
    assert shares(rows, 2) == pytest.approx([2 / 60, 58 / 60])
    rows = Rows.of_script(
        [{"labels": [5] * length} for length in (1, 1, 30)], collate, shifted=True
    )
    assert shares(rows, 2) == [1.0], (
        "a part of single tokens has no loss, and its mean would be NaN"
    )


def test_a_number_to_be_predicted_counts_whatever_its_value() -> None:
    """A target of -100.0 was taken for the mark of a token without a label, and its part was left
    out."""

    def numbers(given: list[Any]) -> dict[str, Tensor]:
        return {"labels": torch.tensor(given)}

    assert shares(Rows.of_script([-100.0, 3.0, 5.0], numbers), 1) == [1 / 3] * 3
    assert shares(Rows.of_script([-100, 3, 5], numbers), 1) == [0.5] * 2
    assert shares(Rows.of_script([-100, -100], numbers), 1) == [0.0], "one part stays"
    halves = Rows.of_script(
        [0.5, 1.5], lambda given: {"labels": torch.tensor(given, dtype=torch.bfloat16)}
    )
    assert shares(halves, 1) == [0.5] * 2


@pytest.mark.parametrize(
    ("task_type", "outputs", "labels", "known", "regression"),
    [
        (TaskType.SEQ_CLS, 2, torch.tensor([0, 1]), True, False),
        ("SEQ_CLS", 1, torch.tensor([0.5, 1.0]), True, True),
        ("SEQ_CLS", 1, torch.tensor([1, 5]), True, True),  # stars were taken for classes
        (TaskType.SEQ_CLS, 2, torch.tensor([[0.0, 1.0], [1.0, 1.0]]), True, False),
        (TaskType.TOKEN_CLS, 1, torch.tensor([[0, 1], [1, -100]]), True, False),
        (TaskType.CAUSAL_LM, None, torch.tensor([[0, 1], [1, -100]]), True, False),
        # packed into one row
        (TaskType.CAUSAL_LM, None, torch.tensor([[0, 1, 1, -100]]), False, False),
        (None, 2, torch.tensor([0, 1]), False, False),
        ("SEQ_CLS", 2, None, False, False),
    ],
)
def test_which_losses_of_rows_are_known(
    task_type: Any, outputs: int | None, labels: Tensor | None, known: bool, regression: bool
) -> None:
    rows = Rows.of_script([{}, {}], lambda examples: {} if labels is None else {"labels": labels})
    found = scoring_of_script(task_type, None, rows, SimpleNamespace(num_labels=outputs))
    assert (found.tells_rows, found.regression) == (known, regression)
