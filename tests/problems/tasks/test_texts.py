"""A table of texts and labels: its columns, classes and numbers, and their metrics."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from autolora.configs.errors import UserError
from autolora.configs.tasks import Table
from autolora.problems.tasks.base import Trained
from autolora.problems.tasks.preparation import prepare
from autolora.problems.tasks.sources import held_out
from autolora.problems.tasks.texts import Texts
from tests.helpers.tiny import make_tokenizer

ROWS = [("a film", "b"), ("our room", "a"), ("dull", "b"), ("noisy", "a")]


def table(
    path: Path, rows: list[tuple[Any, Any]], columns: tuple[str, str] = ("text", "label")
) -> str:
    """A file of these rows in the format of its ending."""
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    return str(path)


def task_of(path: str, **settings: Any) -> Texts:
    """The task on this table, which is evaluated on the same rows unless told otherwise."""
    settings.setdefault("validation_path", path)
    return Texts(Table(type="text", path=path, **settings), seed=0)


def measured(path: str, classes: tuple[str, ...] = (), outputs: int | None = None) -> Trained:
    """A trained model that is measured on this table."""
    rows = held_out(Table(type="text", path=path), path, None, "--data")
    return Trained(rows, None, classes, outputs)


def encoded(task: Texts, split: str | None = None) -> list[Any]:
    """The labels that the model learns."""
    rows = task.raw.train if split is None else task.raw.evaluation[split]
    found = task.encode(rows, make_tokenizer(), split)
    return task.collate(make_tokenizer())([found[number] for number in range(len(found))])[
        "labels"
    ].tolist()


@pytest.mark.parametrize(
    ("ending", "labels", "classes", "numbers"),
    [
        ("csv", ["b", " a", "b ", "a"], ["a", "b"], [1, 0, 1, 0]),
        ("csv", [10, 9, 10, 9], ["9", "10"], [1, 0, 1, 0]),
        ("jsonl", [10, 9, 10, 9], ["9", "10"], [1, 0, 1, 0]),
        ("jsonl", [1.0, 0.0, 1.0, -1.0], ["-1", "0", "1"], [2, 1, 2, 0]),
    ],
)
def test_classes_are_found_in_the_training_rows_numbers_by_value(
    tmp_path: Path, ending: str, labels: list[Any], classes: list[str], numbers: list[int]
) -> None:
    texts = [text for text, _ in ROWS]
    task = task_of(table(tmp_path / f"d.{ending}", list(zip(texts, labels, strict=True))))
    assert task.classes == classes
    assert task.raw.train["text"][:] == texts
    assert encoded(task) == encoded(task, "validation") == numbers
    assert task.head()["id2label"] == dict(enumerate(classes))


def test_the_names_in_a_columns_type_are_its_classes_in_their_order(tmp_path: Path) -> None:
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["good", "bad"])})
    Dataset.from_dict({"sentence": ["x", "y"], "label": [1, 0]}, features).to_parquet(
        str(tmp_path / "d.parquet")
    )
    dev = table(tmp_path / "dev.csv", [("x", "bad")], ("sentence", "label"))
    task = task_of(str(tmp_path / "d.parquet"), validation_path=dev)
    assert (task.classes, task.inputs_of(task.raw.train)) == (["good", "bad"], ["sentence"])
    assert encoded(task) == [1, 0]
    assert encoded(task, "validation") == [1]


def test_a_pair_is_encoded_as_its_tokens_and_padded_to_its_batch(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": ["the film", "our room is"], "b": ["dull", "the"], "label": [1, 0]})
    rows.to_csv(tmp_path / "d.csv", index=False)
    task = task_of(str(tmp_path / "d.csv"), text_columns=["a", "b"], max_length=8)
    tokenizer = make_tokenizer()
    found = task.encode(task.raw.train, tokenizer)
    parts = [tokenizer.convert_ids_to_tokens(ids) for ids in found["input_ids"]]
    assert parts[0] == ["<s>", "the", "film", "</s>", "dull", "</s>"]
    assert found["length"][:] == [len(part) for part in parts]
    batch = task.collate(tokenizer)([found[0], found[1]])
    assert type(batch) is dict
    assert set(batch) == set(tokenizer.model_input_names) | {"labels"}
    assert (batch["labels"].tolist(), batch["input_ids"].shape[1]) == ([1, 0], 8)


def test_the_metrics_of_classes_are_their_definitions(tmp_path: Path) -> None:
    task = task_of(table(tmp_path / "d.csv", ROWS), metrics=["accuracy", "matthews", "f1_macro"])
    labels = [1, 1, 1, 0, 0, 1]
    predicted = torch.tensor([1, 1, 0, 0, 1, 1])
    found = task.predicted(torch.eye(2)[predicted] * 3, torch.tensor(labels))
    assert found[0].tolist() == pytest.approx([1, 1 / (1 + math.exp(-3))]), (
        "the class and its probability"
    )
    tp = 3
    tn = 1
    fp = 1
    fn = 1
    assert task.metrics(found.numpy(), Dataset.from_dict({"labels": labels}), 0.0) == pytest.approx(
        {
            "accuracy": 4 / 6,
            "matthews": (tp * tn - fp * fn)
            / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5,
            "f1_macro": (2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2,
        }
    )


@pytest.mark.parametrize("trained", [False, True])
def test_the_metrics_of_numbers_are_their_definitions_in_the_file_s_units(
    tmp_path: Path, trained: bool
) -> None:
    """Labels 8 and 12 have mean 10 and deviation 2."""
    path = table(tmp_path / "d.jsonl", [("a", 8.0), ("b", 12.0)])
    task = task_of(path, metrics=["spearman", "pearson", "mse"], kind="regression")
    task = replace(task, trained=measured(path) if trained else None)
    rows = Dataset.from_dict({"labels": [8.0, 12.0, 10.0], "texts": [["a"], ["b"], ["c"]]})
    found = task.predicted(
        torch.tensor([[0.5], [1.0], [-1.0]]), torch.tensor(rows["labels"][:])
    ).numpy()
    said = np.array([0.5, 1.0, -1.0]) if trained else np.array([11.0, 12.0, 8.0])
    metrics = task.metrics(found, rows, 0.0)
    labels = np.array(rows["labels"][:])
    assert metrics["mse"] == pytest.approx(np.mean((labels - said) ** 2))
    assert metrics["pearson"] == pytest.approx(np.corrcoef(labels, said)[0, 1])
    assert metrics["spearman"] == pytest.approx(0.5)
    shown = task.predictions(found, rows).to_dict("list")
    assert shown == {
        "text": ["a", "b", "c"],
        "label": [8.0, 12.0, 10.0],
        "predicted": pytest.approx(said.tolist()),
    }
    constant = task.metrics(np.ones((3, 1)), rows, 0.0)
    assert (constant["spearman"], constant["pearson"]) == (0.0, 0.0)


def test_numbers_are_learned_with_mean_0_and_deviation_1(tmp_path: Path) -> None:
    rows = [(text, number) for (text, _), number in zip(ROWS, (1, 2, 4, 5), strict=True)]
    path = table(tmp_path / "d.csv", rows)
    task = task_of(path, kind="regression")
    assert encoded(task) == pytest.approx(
        [-2 / 2.5**0.5, -1 / 2.5**0.5, 1 / 2.5**0.5, 2 / 2.5**0.5]
    )
    assert task.label_scale is not None
    assert (task.label_scale.mean, task.label_scale.deviation) == (3.0, pytest.approx(2.5**0.5))
    assert task.head() == {"num_labels": 1, "problem_type": "regression"}
    assert encoded(replace(task, trained=measured(path))) == [1, 2, 4, 5]


def test_the_labels_of_a_trained_head_are_its_names_or_numbers_from_0(tmp_path: Path) -> None:
    """What they are follows from the head and from the rows that are measured, not from others."""

    def task(labels: str, *known: Any) -> Texts:
        path = table(tmp_path / f"{labels}.csv", [(f"text {label}", label) for label in labels])
        return replace(task_of(path), trained=measured(path, *known))

    assert task("012", (), 3).classes == task("02", (), 3).classes == ["0", "1", "2"]
    assert task("123", (), 3).classes == ["1", "2", "3"]
    with pytest.raises(UserError, match="the head has 3 without names"):
        task("12", (), 3).classes  # noqa: B018
    named = task("012", ("1", "2", "3"), 3)
    assert named.class_numbers(["1", "2"], "test") == {"0": 0, "1": 1, "2": 2}
    assert task("123", ("1", "2", "3"), 3).class_numbers(["1"], "test")["1"] == 0


def test_a_folder_with_splits_gives_the_one_that_is_asked_for(tmp_path: Path) -> None:
    """Its first one is the training split."""
    folder = tmp_path / "splits"
    folder.mkdir()
    for number, name in enumerate(("train", "validation", "test")):
        table(
            folder / f"{name}.csv", [(f"{name} {row}", "ab"[row % 2]) for row in range(2 + number)]
        )
    path = table(tmp_path / "d.csv", ROWS)
    for key, count in (("validation_path", 3), ("test_path", 4)):
        task = Texts(Table(type="text", path=path, **{key: str(folder)}), seed=0)
        (rows,) = task.raw.evaluation.values()
        assert len(rows) == count
    (folder / "test.csv").unlink()
    task = Texts(Table(type="text", path=path, test_path=str(folder)), seed=0)
    assert [len(rows) for rows in task.raw.evaluation.values()] == [3]


def test_copies_of_a_text_are_held_out_together_and_the_draw_is_the_seeds(tmp_path: Path) -> None:
    path = table(tmp_path / "d.csv", [(f"text {i // 2}", "ab"[i % 2]) for i in range(40)])

    def parts(seed: int) -> tuple[list[str], list[str]]:
        task = Texts(Table(type="text", path=path, holdout_share=0.2), seed)
        found = task.raw
        assert found.held_out
        return found.train["text"][:], found.evaluation["validation"]["text"][:]

    train, held_out = parts(0)
    assert (len(train), len(held_out)) == (32, 8)
    assert not set(train) & set(held_out)
    assert parts(0) == (train, held_out)
    assert parts(1)[1] != held_out


def test_rows_beyond_those_to_train_on_are_unused_unless_they_are_copies(tmp_path: Path) -> None:
    task = task_of(table(tmp_path / "d.csv", ROWS * 10), train_rows=2, unused_rows=9)
    data = prepare(task, make_tokenizer())
    assert data.unused is not None
    assert (len(data.train), len(data.unused)) == (2, 9)
    texts, unused = (
        {tuple(ids) for ids in rows.examples["input_ids"][:]} for rows in (data.train, data.unused)
    )
    assert not texts & unused, "they would measure memory, not learning"


@pytest.mark.parametrize(
    ("settings", "rows", "said"),
    [
        ({}, [("a", "x"), (" ", "y")], "1 rows have nothing in column 'text', the first is row 2"),
        ({}, [("a", "x"), ("b", "x")], "column 'label' has one label alone"),
        (
            {"kind": "regression"},
            [("a", "1"), ("b", "nan")],
            "column 'label' has labels that are no numbers",
        ),
        (
            {"kind": "regression"},
            [("a", "0.1"), ("b", "0.1")],
            "column 'label' has one number alone, 0.1",
        ),
    ],
)
def test_what_cannot_be_learned_is_one_line(
    tmp_path: Path, settings: dict[str, Any], rows: list[tuple[Any, Any]], said: str
) -> None:
    path = table(tmp_path / "d.csv", rows)
    with pytest.raises(UserError, match=rf"^--task.path: {path}.*{said}"):
        encoded(task_of(path, **settings))
