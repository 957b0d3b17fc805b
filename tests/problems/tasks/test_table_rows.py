"""All rows of a user's table that have no text or no label are told at once, and so is a class of nearly all rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.tasks import Generation
from autolora.problems.tasks.data_to_text import SourceTarget
from tests.helpers.tables import LABELS, TEXTS, task_of, write

LAST = "; fill them in or remove the rows"


IN_LINES = {".csv": "2 3 4 5 7 8", ".tsv": "2 3 4 5 7 8", ".jsonl": "1 2 3 4 5 6"}
"""The line where each row begins: below the header, and the fourth text takes two lines of CSV and TSV."""


def place(suffix: str, row: int) -> str:
    return f"line {IN_LINES[suffix].split()[row - 1]}" if suffix in IN_LINES else f"row {row} (counted from 1)"


def places(suffix: str, *rows: int) -> str:
    s = "s" if len(rows) > 1 else ""
    if suffix not in IN_LINES:
        return f"number{s} {', '.join(map(str, rows))}, counted from 1"
    return f"line{s} {', '.join(IN_LINES[suffix].split()[row - 1] for row in rows)}"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_without_a_text_or_a_label_are_counted_and_the_first_are_named(tmp_path: Path, suffix: str) -> None:
    """The number of a row is of no use in an editor, which shows the lines of a file."""
    path = tmp_path / f"d{suffix}"
    good = write(tmp_path / f"g{suffix}", {"text": TEXTS, "label": LABELS})
    empty: Any = " " if suffix in (".csv", ".tsv") else None
    no_text, no_label = "column 'text' has no text", "the label is empty"
    for texts, labels, told in (
        ([2], [], f", {place(suffix, 2)}: {no_text}; fill it in or remove the row"),
        ([], [5], f", {place(suffix, 5)}: {no_label}; fill it in or remove the row"),
        ([2, 3], [], f": {no_text} in 2 rows ({places(suffix, 2, 3)}){LAST}"),
        ([6], [1, 3], f": {no_text} in 1 row ({places(suffix, 6)}) and {no_label} in 2 rows "
         f"({places(suffix, 1, 3)}){LAST}"),
    ):  # fmt: skip
        write(path, {
            "text": [empty if row in texts else text for row, text in enumerate(TEXTS, 1)],
            "label": [empty if row in labels else label for row, label in enumerate(LABELS, 1)],
        })  # fmt: skip
        for task, option in ((task_of(path), "path"), (task_of(good, validation_path=str(path)), "validation_path")):
            with pytest.raises(UserError) as caught:
                task.rows()
            assert str(caught.value) == f"--task.{option}: {path}{told}"


def test_of_many_rows_the_first_five_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"text": [" "] * 6, "label": LABELS})
    with pytest.raises(UserError, match=r"has no text in 6 rows \(lines 2, 3, 4, 5, 6, \.\.\.\); fill"):
        task_of(path).rows()


def test_numbers_without_a_label_are_counted_too(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"text": TEXTS, "label": ["", 1, "", 2, "", 3]})
    with pytest.raises(UserError, match=r"d\.csv: the label is empty in 3 rows \(lines 2, 4, 7\); fill them in"):
        task_of(path, kind="regression").rows()


def test_sources_and_targets_without_a_text_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"source": ["a", "", "c", ""], "target": ["x", "y", " ", "z"]})
    with pytest.raises(UserError) as caught:
        SourceTarget(Generation(type="generation", path=str(path)), 0).records()
    assert str(caught.value) == (
        f"--task.path: {path}: column 'source' has no text in 2 rows (lines 3, 5) and column 'target' has no text "
        f"in 1 row (line 4){LAST}"
    )


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_broken_character_is_told_with_its_line_also_where_rows_are_held_out(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"text": f"text {number}", "label": number % 2} for number in range(20)]
    rows[6]["text"] = "\ud800 x"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for other in (None, str(path)):
        with pytest.raises(UserError, match=r"d\.jsonl, line 7: column 'text' holds a broken character .* the row$"):
            task_of(path, validation_path=other, kind=kind).rows()
