"""A user's own table: every format, and every mistake with file and row."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from autolora.configs.errors import UserError
from autolora.configs.tasks import Table
from autolora.problems.tasks.table import TextTable
from tests.helpers.tables import LABELS, TEXTS, task_of, write


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".CSV", ".Tsv", ".JSONL", ".PARQUET"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    task = task_of(write(tmp_path / f"d{suffix}", {"text": TEXTS, "label": LABELS}))
    found = task.rows()
    assert found.train["text"][:] == TEXTS
    assert found.train["label"][:] == [1, 0, 1, 0, 1, 0]
    assert task.classes == ["a", "b"]
    assert task.name == "d"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_number_names_of_classes_are_in_the_order_of_numbers(tmp_path: Path, suffix: str) -> None:
    task = task_of(write(tmp_path / f"d{suffix}", {"sentence": TEXTS, "label": [10, 2, 10, 2, 1, 1]}))
    assert task.rows().train["label"][:] == [2, 1, 2, 1, 0, 0]
    assert task.classes == ["1", "2", "10"]
    assert task.columns == ["sentence"]


def test_names_that_only_look_like_numbers_are_words(tmp_path: Path) -> None:
    task = task_of(write(tmp_path / "d.csv", {"text": TEXTS, "label": ["²", "--5", "10", "²", "-3", "10"]}))
    task.rows()
    assert task.classes == ["-3", "10", "--5", "²"]


def test_rows_are_held_out_by_seed_when_no_others_are_given(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    path = write(tmp_path / "d.csv", {"text": texts, "label": ["x", "y"] * 20})

    def parts(seed: int) -> tuple[list[str], list[str]]:
        task = TextTable(Table(type="text", path=str(path), holdout_share=0.25), seed)
        found = task.rows()
        assert task.held_out
        return found.train["text"][:], found.evaluation["validation"]["text"][:]

    train, held_out = parts(0)
    assert (len(train), len(held_out)) == (30, 10)
    assert sorted(train + held_out) == sorted(texts)
    assert parts(0) == (train, held_out) != parts(1)


def test_test_rows_are_reported_where_there_are_some(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"text": TEXTS, "label": LABELS})
    test = write(tmp_path / "t.csv", {"text": ["only"], "label": ["b"]})
    task = task_of(path, test_path=str(test))
    assert task.evaluation_split == "test"
    assert task.rows().evaluation["test"]["text"][:] == ["only"]
    assert not task.held_out
    assert list(task_of(path, test_path=str(test), evaluation_split="validation").rows().evaluation) == ["validation"]


def test_a_class_of_one_row_is_never_held_out(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"text": TEXTS, "label": ["a", "a", "a", "a", "b", "c"]})
    for seed in range(10):
        task = TextTable(Table(type="text", path=str(path), holdout_share=0.3), seed)
        found = task.rows()
        assert task.classes == ["a", "b", "c"]
        assert set(found.train["label"]) == {0, 1, 2}
        assert found.evaluation["validation"]["label"][:] == [0, 0]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_white_space_around_a_label_makes_no_other_class(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"d{suffix}", {"text": TEXTS, "label": ["pos", " pos", "neg ", "neg", "pos\u00a0", "neg"]})
    other = write(tmp_path / f"v{suffix}", {"text": ["x", "y"], "label": [" neg", "pos "]})
    task = task_of(path, validation_path=str(other))
    found = task.rows()
    assert task.classes == ["neg", "pos"]
    assert found.train["label"][:] == [1, 1, 0, 0, 1, 0]
    assert found.evaluation["validation"]["label"][:] == [0, 1]


def test_a_class_has_one_name_in_every_format(tmp_path: Path) -> None:
    """Numbers of a CSV file are text, those of parquet and JSON are not; with a null between them they are floats."""
    path = write(tmp_path / "d.csv", {"text": TEXTS, "label": [1, 0, 1, 0, 1, 0]})
    others = {"i.parquet": [0, 1], "f.parquet": [0.0, 1.0], "j.jsonl": [0, 1], "s.jsonl": ["0", "1"]}
    for name, labels in others.items():
        other = write(tmp_path / name, {"text": ["a", "b"], "label": labels})
        assert task_of(path, validation_path=str(other)).rows().evaluation["validation"]["label"][:] == [0, 1]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(("value", "given"), [(["x", "y"], "a list"), ({"name": "x"}, "an object")])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_label_that_is_a_list_or_an_object_is_named(
    tmp_path: Path, suffix: str, value: Any, given: str, kind: str
) -> None:
    path = write(tmp_path / f"d{suffix}", {"text": ["a", "b"], "label": [value, value]})
    place = "line 1" if suffix == ".jsonl" else r"row 1 \(counted from 1\)"
    message = rf"^--task\.path: .*d{suffix}, {place}: column 'label' holds {given}; allowed: one text or number a row$"
    with pytest.raises(UserError, match=message):
        task_of(path, kind=kind).rows()
    good = write(tmp_path / f"t{suffix}", {"text": TEXTS, "label": [1, 2, 1, 2, 1, 2]})
    with pytest.raises(UserError, match=rf"^--task\.validation_path: .*holds {given}"):
        task_of(good, kind=kind, validation_path=str(path)).rows()


@pytest.mark.parametrize(("value", "given"), [(3, "a number"), (["x"], "a list"), (b"x", "bytes")])
def test_a_cell_that_is_no_text_is_named(tmp_path: Path, value: Any, given: str) -> None:
    path = write(tmp_path / "d.parquet", {"text": [value, value], "label": ["a", "b"]})
    with pytest.raises(
        UserError, match=rf"d\.parquet, row 1 \(counted from 1\): column 'text' holds {given}; allowed: a text$"
    ):
        task_of(path).rows()


def test_a_null_of_parquet_is_no_class(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pd.DataFrame({"text": ["a", "b", "c"], "label": pd.array([1, 2, None], dtype="Int64")}).to_parquet(path)
    with pytest.raises(UserError, match=r"row 3 \(counted from 1\): the label is empty"):
        task_of(path).rows()


def of_datasets(path: Path, labels: list[int | None], names: list[str]) -> Path:
    """A parquet file as datasets writes it, whose column type has the names of the classes."""
    texts = [f"text {number}" for number in range(len(labels))]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    Dataset.from_dict({"text": texts, "label": labels}, features=features).to_parquet(path)
    return path


def test_the_type_of_a_parquet_column_names_the_classes(tmp_path: Path) -> None:
    """They once were "0" and "1" in the adapter's configuration, without a word."""
    path = of_datasets(tmp_path / "d.parquet", [0, 1, 3, 0, 1, 3], ["World", "Sports", "unused", "Business"])
    other = of_datasets(tmp_path / "v.parquet", [0, 1, 1], ["Business", "Sports"])
    named = write(tmp_path / "v.csv", {"text": ["a", "b"], "label": ["Sports", "World"]})
    task = task_of(path, validation_path=str(other), test_path=str(named), evaluation_split="validation")
    rows = task.rows()
    assert task.classes == ["World", "Sports", "Business"], "in the order of their numbers"
    assert rows.train["label"][:] == [0, 1, 2, 0, 1, 2]
    assert rows.evaluation["validation"]["label"][:] == [2, 1, 1], "each file has its own numbers"
    assert task.head()["id2label"] == {0: "World", 1: "Sports", 2: "Business"}
    rows = task_of(path, validation_path=str(named)).rows()
    assert rows.evaluation["validation"]["label"][:] == [1, 0]
    assert task_of(path, kind="regression").rows().train["label"][:3] == [0.0, 1.0, 3.0]
    assert set(task_of(path, validation_path=None).rows().train["label"]) == {0, 1, 2}


def test_a_number_without_a_name_is_named_with_its_row(tmp_path: Path) -> None:
    path = of_datasets(tmp_path / "d.parquet", [0, -1, 1, 0], ["neg", "pos"])
    message = r"d\.parquet, row 2 \(counted from 1\): column 'label' holds -1, .* the classes 0 to 1 \(neg"
    with pytest.raises(UserError, match=message):
        task_of(path).rows()
    with pytest.raises(UserError, match=r"row 2 \(counted from 1\): the label is empty"):
        task_of(of_datasets(path, [0, None, 1, 0], ["neg", "pos"])).rows()


@pytest.mark.parametrize(
    ("labels", "warned"),
    [
        (["0.25", "3.5", "1", "0.25", "3.5", "1"], True),
        ([0.25, 3.5, 1, 0.25, 3.5, 1], True),
        (["1.0", "2.0", "1.0", "2.0", "1.0", "2.0"], False),
        ([1, 2, 3, 1, 2, 3], False),
        (["0.25", "3.5", "none", "0.25", "3.5", "none"], False),
        (["1.5", "nan", "1.5", "nan", "1.5", "nan"], False),
    ],
)
def test_fractions_taken_for_classes_are_warned_of(
    tmp_path: Path, labels: list[Any], warned: bool, log_lines: list[str]
) -> None:
    path = write(tmp_path / "d.csv", {"text": TEXTS, "label": labels})
    task_of(path).rows()
    lines = [line for line in log_lines if " holds " in line]
    assert [line.partition(" holds")[0] for line in lines] == [
        f"WARNING --task.path: column 'label' of {path}"
    ] * warned
    assert all("--task.kind regression" in line and "\n" not in line for line in lines)
    log_lines.clear()
    if warned:
        task_of(path, kind="regression").rows()
        assert not any(line.startswith("WARNING") for line in log_lines)


def test_classes_are_told_with_their_rows(tmp_path: Path, log_lines: list[str]) -> None:
    texts = [f"text {i}" for i in range(60)]
    path = write(tmp_path / "nan.csv", {"text": texts, "label": [*["0"] * 24, *["1"] * 24, *["nan"] * 12]})
    told = ["INFO data: 60 rows of nan.csv, 3 classes: 0 (24), 1 (24), nan (12)"]
    for other in (str(path), None):  # the rows that are held out of the file are told, too
        log_lines.clear()
        task_of(path, validation_path=other).rows()
        assert log_lines == told
    log_lines.clear()
    task_of(write(tmp_path / "d.csv", {"text": texts, "label": range(60)}), kind="regression").rows()
    assert [line for line in log_lines if "classes" in line] == [], "numbers are no classes"


def test_pairs_and_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "d.tsv", {"p": TEXTS, "h": TEXTS[::-1], "score": [0.5, 1, 2, 3, -4, 5e-1]})
    task = task_of(path, text_columns=["p", "h"], label_column="score", kind="regression")
    found = task.rows().train
    assert found["label"][:] == [0.5, 1.0, 2.0, 3.0, -4.0, 0.5]
    assert found["h"][0] == "six"
    assert task.classes == []


WRONG = {
    "empty text": ({"text": ["a", " "], "label": ["x", "y"]}, {}, r"line 3: column 'text' has no text"),
    "one class": ({"text": ["a", "b"], "label": ["x", "x"]}, {}, r"has the one class 'x'; two or more"),
    "no column": ({"txt": ["a", "b"], "label": ["x", "y"]}, {}, r"has no column text; it has: txt, label"),
    "no label": ({"text": ["a", "b"], "lab": ["x", "y"]}, {}, r"has no column label; it has: text, lab"),
    "no number": (
        {"text": ["a", "b"], "label": ["1", "x"]},
        {"kind": "regression"},
        r"line 3: label 'x' is not a number",
    ),
    "decimal comma": (
        {"text": ["a", "b"], "label": ["1", "3,5"]},
        {"kind": "regression"},
        r"line 3: label '3,5' is not a number; write a decimal point, not a comma",
    ),
    "infinite": (
        {"text": ["a", "b"], "label": ["1", "inf"]},
        {"kind": "regression"},
        r"line 3: label 'inf' is not a number",
    ),
    "beyond fp32": (
        {"text": ["a", "b"], "label": ["1", "1e39"]},
        {"kind": "regression"},
        r"d\.csv, line 3: label '1e39' is too large, fp32 cannot hold its square; allowed: -1e\+19 to 1e\+19",
    ),
    "square beyond fp32": (
        {"text": ["a", "b"], "label": ["-2e19", "1"]},
        {"kind": "regression"},
        r"line 2: label '-2e19' is too",
    ),
    "beyond a float": (
        {"text": ["a", "b"], "label": ["9" * 400, "1"]},
        {"kind": "regression"},
        r"line 2: .* is not a number",
    ),
    "not a number": (
        {"text": ["a", "b"], "label": ["1", "NaN"]},
        {"kind": "regression"},
        r"line 3: label 'NaN' is not a n",
    ),
    "one number": (
        {"text": ["a", "b", "c"], "label": ["3", " 3", "3"]},
        {"kind": "regression"},
        r"column 'label' of .*d\.csv has the one number 3; two or more are needed",
    ),
    "no rows": ({"text": [], "label": []}, {}, r"has no rows"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_that_cannot_be_learned_is_named_with_its_row(tmp_path: Path, case: str) -> None:
    columns, settings, message = WRONG[case]
    path = write(tmp_path / "d.csv", columns)
    with pytest.raises(UserError, match=message) as caught:
        task_of(path, **settings).rows()
    assert str(caught.value).startswith("--task.")
    assert "\n" not in str(caught.value)


def test_a_label_that_training_has_not_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"text": TEXTS, "label": LABELS})
    other = write(tmp_path / "v.csv", {"text": ["a", "b"], "label": ["b", "z"]})
    with pytest.raises(UserError, match=r"^--task\.validation_path: .*v\.csv, line 3: label 'z' does not occur"):
        task_of(path, validation_path=str(other)).rows()
