"""Rows of somebody's own script: any data set with a length and an index, and a collator."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import TaskType
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.problems.data import Batches
from autolora.problems.tasks.given import (
    GivenRows,
    Joined,
    kind_of,
    refuse_other_types,
    refuse_unindexed,
    with_columns_of,
)

EXAMPLES = [{"input_ids": [1] * n, "labels": n % 2} for n in (3, 1, 2)]


def collate(examples: list[Any]) -> dict[str, Tensor]:
    return {"labels": torch.tensor([example["labels"] for example in examples])}


class Indexed(torch.utils.data.Dataset[Any]):
    """A torch data set, whose examples are tensors."""

    def __len__(self) -> int:
        return len(EXAMPLES)

    def __getitem__(self, number: int) -> Any:
        return {name: torch.tensor(value) for name, value in EXAMPLES[number].items()}


@pytest.mark.parametrize("source", [EXAMPLES, Dataset.from_list(EXAMPLES), Indexed()], ids=["list", "hub", "torch"])
def test_rows_are_those_of_the_source(source: Any) -> None:
    rows = GivenRows(source, collate)
    assert (len(rows), rows["length"], list(rows["labels"])) == (3, [3, 1, 2], [1, 1, 0])
    assert [int(example["labels"]) for example in rows.__getitems__([2, 0])] == [0, 1]
    some = rows.select([2, 1])
    assert (len(some), some["length"], list(some[[1, 0]]["labels"])) == (2, [2, 1], [1, 0])
    assert some.select([1])["length"] == [1]


def test_a_batch_may_hold_plain_numbers() -> None:
    """TRL's collator adds the longest length of packed texts; it had been refused."""
    rows = GivenRows(EXAMPLES, lambda examples: {**collate(examples), "max_length_q": 3})
    assert rows.collate(EXAMPLES)["max_length_q"] == 3
    assert list(rows["labels"]) == [1, 1, 0]


def test_a_length_of_the_examples_own_counts_and_others_have_none() -> None:
    assert GivenRows([{"input_ids": [1, 2], "length": 9}], collate)["length"] == [9]
    assert GivenRows(Dataset.from_list([{"input_ids": [1, 2], "length": 9}]), collate)["length"] == [9]
    assert GivenRows([(1, 2), "text"], collate)["length"] == [1, 1]


@pytest.mark.parametrize("kind", ["list", "hub", "hub with lengths", "torch"])
def test_examples_of_equal_tokens_are_one_text(kind: str) -> None:
    tokens = [[1, 2], [3], [1, 2], [12], [2, 1]]
    plain: list[Any] = [{"input_ids": ids, "labels": number} for number, ids in enumerate(tokens)]
    tensors = [{name: torch.tensor(value) for name, value in example.items()} for example in plain]
    hub = Dataset.from_list(plain)
    source = {"list": plain, "hub": hub, "hub with lengths": hub.add_column("length", [9] * 5), "torch": tensors}[kind]
    rows = GivenRows(source, collate, by_text=True)
    assert rows.texts is not None
    assert [rows.texts.index(text) for text in rows.texts] == [0, 1, 0, 3, 4]
    assert rows["length"] == ([9] * 5 if kind == "hub with lengths" else [2, 1, 2, 1, 2])
    some = rows.select([4, 2])
    assert some.texts == [rows.texts[4], rows.texts[2]]
    assert rows.texts is not some.texts
    assert len(rows) == 5, "the rows that some were taken from stay as they were"


def test_texts_are_not_known_unless_each_example_is_one() -> None:
    assert GivenRows(EXAMPLES, collate).texts is None
    assert GivenRows([*EXAMPLES, {"labels": 1}], collate, by_text=True).texts is None
    assert GivenRows([(1, 2), "text"], collate, by_text=True).texts is None


def test_each_example_is_read_once_before_the_search() -> None:
    read: list[int] = []

    class Counted(list[Any]):
        def __getitem__(self, number: Any) -> Any:
            read.append(number)
            return super().__getitem__(number)

    GivenRows(Counted(EXAMPLES), collate, by_text=True).select([0, 2])
    assert read == [0, 1, 2]


def test_parts_of_a_language_models_batch_weigh_the_labels_that_its_loss_reads() -> None:
    """A script's labels are often the input ids themselves, and the first of them has no token before it."""
    examples = [{"labels": [5] * length} for length in (2, 2, 30, 30, 1, 1)]
    rows = GivenRows(examples, collate, shifted=True)
    assert rows.parts([0, 1, 2, 3], 2)[1] == pytest.approx([2 / 60, 58 / 60])
    parts, shares = rows.select([4, 5, 2]).parts([0, 1, 2], 2)
    assert (len(parts), shares) == (1, [1.0]), "a part of single tokens has no loss, and its mean would be NaN"


def test_a_collator_that_draws_the_labels_is_asked_once_and_the_parts_weigh_what_it_drew() -> None:
    """As masked language models do: the parts had been weighed by the labels of a second draw."""
    draws, drawn = np.random.default_rng(0), list[Tensor]()

    def masked(given: list[Any]) -> dict[str, Tensor]:
        labels = torch.where(torch.from_numpy(draws.random((len(given), 8)) < 0.3), 5, -100)
        drawn.append(labels)
        return {"labels": labels}

    batches = Batches(cast(Any, GivenRows(list(range(8)), masked)), 2, masked, 0, torch.device("cpu"), parts=4)
    rows = GivenRows(list(range(8)), masked)
    for _ in range(20):
        drawn.clear()
        parts, shares = rows.parts(range(8), 2)
        counts = [int((labels != -100).sum()) for labels in drawn]
        assert len(drawn) == 4
        assert [part["labels"].tolist() for part in parts] == [
            x.tolist() for x, n in zip(drawn, counts, strict=True) if n
        ]
        assert shares == pytest.approx([count / sum(counts) for count in counts if count])
    drawn.clear()
    batches[0]
    assert len(drawn) == 4, "each example of a batch is collated once"


def test_of_parts_without_any_label_the_last_one_stays() -> None:
    rows = GivenRows([[-100, -100]] * 4, lambda given: {"labels": torch.tensor(given)})
    parts, shares = rows.parts([0, 1, 2, 3], 2)
    assert (len(parts), shares) == (1, [0.0])


def test_labels_in_bf16_are_counted() -> None:
    def alone(given: list[Any]) -> dict[str, Tensor]:
        return {"labels": torch.tensor(given, dtype=torch.bfloat16)}

    rows = GivenRows([0.5, 1.5, 2.5], alone)
    assert rows.parts([0, 1, 2], 2)[1] == pytest.approx([2 / 3, 1 / 3])
    assert [label.tolist() for label in rows["labels"]] == [[0.5], [1.5], [2.5]]


def test_a_number_to_be_predicted_counts_whatever_its_value() -> None:
    """A target of -100.0 was taken for the mark of a token without a label, and its part was left out."""

    def numbers(given: list[Any]) -> dict[str, Tensor]:
        return {"labels": torch.tensor(given)}

    parts, shares = GivenRows([-100.0, 3.0, 5.0], numbers).parts([0, 1, 2], 1)
    assert ([part["labels"].tolist() for part in parts], shares) == ([[-100.0], [3.0], [5.0]], [1 / 3] * 3)
    parts, shares = GivenRows([-100, 3, 5], numbers).parts([0, 1, 2], 1)
    assert ([part["labels"].tolist() for part in parts], shares) == ([[3], [5]], [0.5] * 2)


def test_two_sources_are_read_one_after_the_other() -> None:
    both = Joined([1, 2], (3,))
    assert [both[number] for number in range(len(both))] == [1, 2, 3]


@pytest.mark.parametrize(
    ("task_type", "labels", "known", "regression"),
    [
        (TaskType.SEQ_CLS, torch.tensor([0, 1]), True, False),
        ("SEQ_CLS", torch.tensor([0.5, 1.0]), True, True),
        (TaskType.SEQ_CLS, torch.tensor([[0.0, 1.0], [1.0, 1.0]]), False, False),
        (TaskType.TOKEN_CLS, torch.tensor([[0, 1], [1, -100]]), True, False),
        (TaskType.CAUSAL_LM, torch.tensor([[0, 1], [1, -100]]), True, False),
        (TaskType.CAUSAL_LM, torch.tensor([[0, 1, 1, -100]]), False, False),  # packed into one row
        (TaskType.SEQ_2_SEQ_LM, torch.tensor([[0, 1], [1, 1]]), False, False),
        (None, torch.tensor([0, 1]), False, False),
    ],
)
def test_which_losses_of_rows_are_known(task_type: Any, labels: Tensor, known: bool, regression: bool) -> None:
    rows = GivenRows([{}, {}], lambda examples: {"labels": labels})
    found = kind_of(task_type, None, rows, plain=True)
    assert (found.tells_rows, found.head().get("problem_type") == "regression") == (known, regression)
    assert not kind_of(task_type, None, rows, plain=False).tells_rows


def test_batches_without_labels_tell_no_loss_of_rows() -> None:
    rows = GivenRows([{}, {}], lambda examples: {"x": torch.ones(2)})
    assert not kind_of("SEQ_CLS", None, rows, plain=True).tells_rows
    assert rows["labels"] == [0, 0]


@pytest.mark.parametrize("given", [None, torch.ones(2), 1.0])
def test_a_loss_that_is_no_scalar_tensor_is_refused(given: Any) -> None:
    kind = kind_of(None, lambda model, batch: given, GivenRows(EXAMPLES, collate), plain=False)
    with pytest.raises(UserError, match=r"^loss: .*"):
        kind.loss(torch.nn.Identity(), {})


def test_validation_rows_get_the_columns_of_the_train_rows() -> None:
    train = Dataset.from_dict({"input_ids": [[1]], "labels": [0]})
    validation = Dataset.from_dict({"labels": [1], "text": ["x"], "input_ids": [[2]]})
    assert with_columns_of(train, validation).column_names == ["input_ids", "labels"]
    assert with_columns_of(train, None) is None
    assert with_columns_of([1, 2], [3]) == [3]


@pytest.mark.parametrize(
    ("validation", "what"),
    [
        (Dataset.from_dict({"text": ["x"]}), "a data set without the columns input_ids, labels"),
        ({"a": Dataset.from_dict({"input_ids": [[1]], "labels": [0]})}, "dict"),
        ([{"input_ids": [1], "labels": 0}], "list"),
    ],
)
def test_validation_rows_of_another_kind_are_one_line(validation: Any, what: str) -> None:
    """trainer.eval_dataset may be all of these; they ended in a traceback."""
    train = Dataset.from_dict({"input_ids": [[1]], "labels": [0]})
    with pytest.raises(UserError, match=rf"^validation_dataset: {what} is not allowed; .* input_ids, labels$"):
        with_columns_of(train, validation)


def test_a_dict_of_data_sets_is_no_data_set() -> None:
    with pytest.raises(UserError, match=r"^validation_dataset: dict has no length or no index"):
        refuse_unindexed("validation_dataset", {"a": [1]})


def test_of_a_data_loader_the_rows_and_the_collator_are_asked_for() -> None:
    """Its sampler and its batch size would not be used."""
    loader = torch.utils.data.DataLoader(Indexed(), batch_size=2, collate_fn=collate)
    line = r"^train_dataset: DataLoader is not .* train_dataset=loader\.dataset with collate=loader\.collate_fn; .*$"
    with pytest.raises(UserError, match=line):
        refuse_unindexed("train_dataset", loader)
    refuse_unindexed("train_dataset", loader.dataset)
    assert GivenRows(loader.dataset, loader.collate_fn)["labels"] == [1, 1, 0]


def test_arguments_of_a_wrong_type_are_one_line() -> None:
    model = torch.nn.Linear(1, 1)
    refuse_other_types(model, len, None)
    for arguments, name in (((None, len, None), "model"), ((model, None, None), "collate"), ((model, len, 3), "loss")):
        with pytest.raises(UserError, match=rf"^{name}: \w+ is not allowed; allowed: "):
            refuse_other_types(*arguments)


def test_a_classifier_of_one_class_predicts_a_number_from_whole_labels_too() -> None:
    """Stars from 1 to 5 were taken for classes of a model with one output: the answer ended in a traceback."""
    rows = GivenRows([{}, {}], lambda examples: {"labels": torch.tensor([1, 5])})
    assert kind_of("SEQ_CLS", None, rows, plain=True, outputs=1).regression
    assert not kind_of("SEQ_CLS", None, rows, plain=True, outputs=6).regression
    assert not kind_of("TOKEN_CLS", None, rows, plain=True, outputs=1).regression


def test_a_loss_without_a_gradient_is_refused_only_where_one_is_needed() -> None:
    kind = kind_of(None, lambda model, batch: torch.tensor(1.0), GivenRows(EXAMPLES, collate), plain=False)
    with pytest.raises(UserError, match=r"^loss: returns a tensor without a gradient"):
        kind.loss(torch.nn.Identity(), {})
    with torch.no_grad():
        assert kind.loss(torch.nn.Identity(), {}) == 1
