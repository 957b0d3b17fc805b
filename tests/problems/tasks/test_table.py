"""A user's own table: formats, classes, held-out rows, and what is refused with the row in the message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.tasks.table import TextTable

ROWS = [{"text": f"text number {i}", "label": ["bad", "good"][i % 2]} for i in range(40)]


def task(path: Path, seed: int = 0, **fields: Any) -> TextTable:
    return TextTable(TaskConfig(type="text", path=str(path), **fields), seed)


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    table = task(write(tmp_path / f"rows{suffix}"))
    rows = table.rows()
    assert table.classes == ["bad", "good"]
    assert table.name == "rows"
    texts = [*rows.train["text"], *rows.evaluation["validation"]["text"]]
    assert sorted(texts) == sorted(row["text"] for row in ROWS)
    assert all(
        label == int(text.split()[-1]) % 2 for text, label in zip(rows.train["text"], rows.train["label"], strict=True)
    )


def test_held_out_rows_are_drawn_by_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv")
    first, again, other = (task(path, seed).rows().evaluation["validation"]["text"][:] for seed in (0, 0, 1))
    assert len(first) == 4
    assert first == again != other


def test_numbers_are_classes_in_their_order_whatever_the_format(tmp_path: Path) -> None:
    rows = [{"text": "x y", "label": i % 11} for i in range(33)]
    for suffix in (".csv", ".parquet"):
        table = task(write(tmp_path / f"rows{suffix}", rows))
        table.rows()
        assert table.classes == [str(i) for i in range(11)]


def test_na_is_a_label_and_a_text_like_any_other(tmp_path: Path) -> None:
    rows = [{"text": "NA", "label": "NA"}, {"text": "null", "label": "None"}] * 10
    table = task(write(tmp_path / "rows.csv", rows))
    assert "NA" in table.rows().train["text"]
    assert table.classes == ["NA", "None"]


def test_given_files_are_evaluated_on(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv")
    test = write(tmp_path / "test.csv", ROWS[:6])
    rows = task(path, test_path=str(test)).rows()
    assert list(rows.evaluation) == ["test"]
    assert len(rows.evaluation["test"]) == 6
    assert len(rows.train) == len(ROWS)


def test_pairs_and_regression(tmp_path: Path) -> None:
    rows = [{"a": "one", "b": "two", "score": i / 8} for i in range(20)]
    table = task(
        write(tmp_path / "rows.jsonl", rows), text_columns=["a", "b"], label_column="score", kind="regression"
    )
    got = table.rows()
    assert got.train.column_names == ["a", "b", "label"]
    assert table.head() == {"num_labels": 1, "problem_type": "regression"}
    assert sorted([*got.train["label"], *got.evaluation["validation"]["label"]]) == [row["score"] for row in rows]


BAD: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "no such column": (ROWS, {"text_columns": ["review"]}, "has no column review; it has: text, label"),
    "no label column": (ROWS, {"label_column": "stars"}, "has no column stars"),
    "one class": ([{"text": "x", "label": "a"}] * 9, {}, "one class"),
    "empty text": (
        [*ROWS, {"text": " ", "label": "bad"}],
        {"holdout_share": 0.01},
        "row 41: column 'text' has no text",
    ),
    "not a number": ([*ROWS[:9]], {"kind": "regression"}, "row 1: label 'bad' is not a number"),
    "nan target": ([{"text": "x", "label": "nan"}] * 9, {"kind": "regression"}, "label 'nan' is not a number"),
    "too many labels": ([{"text": "x", "label": f"l{i}"} for i in range(3000)], {}, "--task.kind regression"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_refused(tmp_path: Path, name: str) -> None:
    rows, fields, message = BAD[name]
    with pytest.raises(UserError, match=message) as caught:
        task(write(tmp_path / "rows.csv", rows), **fields).rows()
    assert "rows.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_unknown_to_training_is_refused(tmp_path: Path) -> None:
    test = write(tmp_path / "test.csv", [{"text": "x", "label": "ugly"}])
    with pytest.raises(UserError, match=r"test.csv, row 1: label 'ugly' does not occur in the training rows"):
        task(write(tmp_path / "rows.csv"), test_path=str(test)).rows()


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes("text,label\ncafé,1\n".encode("latin-1"))
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "broken.jsonl").write_text('{"text": ')
    for name, message in (
        ("latin.csv", "not UTF-8"),
        ("empty.csv", "no rows"),
        ("broken.jsonl", "cannot be read"),
        ("missing.csv", "no file"),
        ("rows.xlsx", "allowed: a file that ends in"),
    ):
        with pytest.raises(UserError, match=message):
            task(tmp_path / name).rows()


def test_unknown_metric_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="allowed: accuracy"):
        task(tmp_path / "rows.csv", metrics=["bleu"])
