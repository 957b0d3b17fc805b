"""Tables and tagged sentences that are broken: one line with file, row and reason. Odd ones that are right train."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.helpers.bad_input import ROWS, Begin, Command, csv, ends_with_code_2, refused
from tests.helpers.undrawn import undrawn

REGRESSION = ("--task.kind", "regression")
TABLES: dict[str, tuple[str, str | bytes, tuple[str, ...], tuple[str, ...]]] = {
    "empty file": ("d.csv", "", (), ("d.csv",)),
    "header only": ("d.csv", "text,label\n", (), ("d.csv", "no rows")),
    "one row": ("d.csv", csv(ROWS[:1]), (), ("d.csv",)),
    "more tokens than positions": (
        "d.csv",
        csv([*ROWS, ("a " * 90, "good")]),
        (),
        ("a row has 92 tokens", "takes 80"),
    ),
    "one class": ("d.csv", csv([("a b", "x")] * 8), (), ("one class",)),
    "no label column": ("d.csv", csv(ROWS, "text,answer"), (), ("label", "it has: text, answer")),
    "no text column": ("d.csv", csv(ROWS, "txt,label"), (), ("text",)),
    "named column": ("d.csv", csv(ROWS), ("--task.text_columns", "[body]"), ("body",)),
    "an empty text": ("d.csv", csv([*ROWS, ("", "good")]), (), ("row 13", "no text")),
    "a blank text": ("d.csv", csv([*ROWS, ("   ", "good")]), (), ("row 13", "no text")),
    "a missing label": ("d.csv", csv([*ROWS, ("x y", "")]), (), ("row 13", "label")),
    "too many cells": ("d.csv", csv(ROWS) + "a,b,c,d\n", (), ("d.csv",)),
    "not UTF-8": ("d.csv", b"text,label\n\xff\xfe,a\nb,c\n", (), ("d.csv", "UTF-8")),
    "JSON not UTF-8": ("d.jsonl", b'{"text": "\xff", "label": "a"}\n', (), ("d.jsonl",)),
    "broken JSON": ("d.jsonl", '{"text": "a", "label": 0}\n{"text": \n', (), ("d.jsonl",)),
    "JSON that is a list": ("d.jsonl", "[1, 2]\n[3, 4]\n", (), ("d.jsonl",)),
    "semicolons between columns": (
        "d.csv",
        "text;label\nbad, very;0\ngood;1\n",
        (),
        ("d.csv", "the header is one cell, 'text;label'; allowed: columns that are separated by commas"),
    ),
    "text that is a number": (
        "d.jsonl",
        '{"text": 3, "label": 0}\n{"text": 4, "label": 1}\n' * 4,
        (),
        ("row 1", "column 'text' holds a number; allowed: a text"),
    ),
    "label that is null": (
        "d.jsonl",
        ('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n' * 4) + '{"text": "c", "label": null}\n',
        (),
        ("row 9", "label"),
    ),
    "no parquet": ("d.parquet", "hello", (), ("d.parquet",)),
    "NaN target": ("d.csv", csv([("a", "1"), ("b", "2"), ("c", "nan")] * 3), REGRESSION, ("row", "not a number")),
    "infinite target": ("d.csv", csv([("a", "1"), ("b", "2"), ("c", "inf")] * 3), REGRESSION, ("row", "not a number")),
    "word for a number": ("d.csv", csv([("a", "1"), ("b", "two")] * 4), REGRESSION, ("row", "not a number")),
    "metric of another kind": ("d.csv", csv(ROWS), ("--task.metrics", "[pearson]"), ("pearson", "accuracy")),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(begin: Begin, tmp_path: Path, case: str) -> None:
    name, content, more, words = TABLES[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(begin, tmp_path, ("--task.type", "text", "--task.path", f"{{here}}/{name}", *more), words)


def test_a_broken_table_ends_the_command(command: Command, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(csv([*ROWS, ("", "good")]))
    ends_with_code_2(command, tmp_path, ("--task.type", "text", "--task.path", "{here}/d.csv"), ("row 13", "no text"))


def test_a_label_that_training_does_not_know(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv(ROWS))
    (tmp_path / "dev.csv").write_text(csv([("a film", "good"), ("a room", "ugly")]))
    arguments = ("--task.type", "text", "--task.path", "{here}/train.csv", "--task.validation_path", "{here}/dev.csv")
    refused(begin, tmp_path, arguments, ("dev.csv, row 2", "ugly", "known: bad, good"))


SENTENCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "IO tags": ("d.conll", "a O\nb I-x\n", ("d.conll, line 2", "IOB2")),
    "no tags": ("d.conll", "a\nb\n", ("d.conll: line 1", "one column")),
    "unequal lists": (
        "d.jsonl",
        '{"tokens": ["a", "b"], "tags": ["O"]}\n',
        ("d.jsonl, row 1", "2 words"),
    ),
    "one sentence for two halves": ("d.conll", "a B-x\n\nb O\n", ("--task.validation_share",)),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_tagged_sentences(begin: Begin, tmp_path: Path, case: str) -> None:
    name, content, words = SENTENCES[case]
    (tmp_path / name).write_text(content)
    refused(begin, tmp_path, ("--task.type", "tokens", "--task.path", f"{{here}}/{name}"), words)


GOOD: dict[str, tuple[str, tuple[str, ...]]] = {
    "a text of 100,000 words": (csv([*ROWS, ("film " * 100_000, "bad")]), ("--task.max_length", "16")),
    "the same row again and again": (csv(ROWS * 3), ()),
    "columns that nobody asked for": ("id,text,label\n" + "7,a film,bad\n7,a room,good\n" * 6, ()),
    "k of 1": (csv(ROWS), ("--lora.k", "1")),
    "more train_rows than rows": (csv(ROWS), ("--task.train_rows", "1000000")),
    "batches larger than the data": (csv(ROWS), ("--search.batch_size", "512", "--retrain.batch_size", "512")),
    "a byte order mark": ("\ufeff" + csv(ROWS), ()),
    "D_val without a class": (csv([("a film", "bad")] * 20 + [("a room", "good")]), ("--task.holdout_share", "0.05")),
}


QUICK = ("a text of 100,000 words", "k of 1", "D_val without a class")


@pytest.mark.trains
@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in GOOD])
def test_odd_but_right(command: Command, tmp_path: Path, case: str) -> None:
    content, more = GOOD[case]
    (tmp_path / "d.csv").write_text(content, encoding="utf-8")
    small = ("--search.steps", "2", "--retrain.max_steps", "1")
    with nullcontext() if case == "k of 1" else undrawn():
        code, lines = command("--task.type", "text", "--task.path", "{here}/d.csv", *small, *more)
    assert code == 0, lines
    assert (tmp_path / "runs" / "tiny" / "metrics.json").exists()
