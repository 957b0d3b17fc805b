"""A wrong name of a column is told from the header of a file, in the words in which reading the file would tell it."""

from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.tasks import Table
from autolora.problems.columns import refuse_missing_columns
from autolora.problems.tasks.table import TextTable
from tests.helpers.tables import write

ROWS: dict[str, list[Any]] = {"id": [1, 2], "review": ["a", "b"], "stars": [4, 5]}
GIVEN = {"text_columns": ["review"], "label_column": "stars"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "text": (GIVEN | {"text_columns": ["reviews"]}, "has no column reviews; it has: id, review, stars"),
    "one of a pair": (GIVEN | {"text_columns": ["review", "b"]}, "has no column b; it has: id, review, stars"),
    "label": (GIVEN | {"label_column": "star"}, "has no column star; it has: id, review, stars"),
    "both, by default": ({}, "has no column text, label; it has: id, review, stars"),
    "twice": (GIVEN | {"label_column": "review"}, "'review' is named twice; allowed: once"),
    "label as a text": (GIVEN | {"text_columns": ["label"]}, "'label' is not allowed beside another"),
}


def said(call: Any) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV", ".TSV"])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_column_is_told_as_by_the_whole_file(tmp_path: Path, suffix: str, case: str) -> None:
    settings, words = WRONG[case]
    path = write(tmp_path / f"d{suffix}", ROWS)
    config = Table(type="text", path=str(path), **settings)
    message = said(lambda: refuse_missing_columns(config))
    assert words in message
    assert message == said(TextTable(config, 0).rows)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_file_to_evaluate_on_is_looked_at_too(tmp_path: Path, split: str) -> None:
    path = write(tmp_path / "d.csv", ROWS)
    other = write(tmp_path / "v.tsv", {"id": [1], "review": ["a"]})
    names: Any = {f"{split}_path": str(other)}
    message = f"--task.{split}_path: {other} has no column stars; it has: id, review"
    for train in (path, write(tmp_path / "d.jsonl", ROWS)):
        config = Table(type="text", path=str(train), **GIVEN, **names)
        assert said(lambda config=config: refuse_missing_columns(config)) == message
        assert said(TextTable(config, 0).rows) == message


@pytest.mark.parametrize("columns", [["text", "label"], ["sentence", "label"], ["id", "text", "label"]])
def test_what_a_header_does_not_rule_out_is_not_refused(tmp_path: Path, columns: list[str]) -> None:
    path = write(tmp_path / "d.csv", {name: ["a", "b"] for name in columns})
    refuse_missing_columns(Table(type="text", path=str(path)))
    refuse_missing_columns(Table(type="text", path=str(path), test_path=str(path)))
    for name in ("d.jsonl", "d.parquet"):
        refuse_missing_columns(Table(type="text", path=str(write(tmp_path / name, ROWS))))


def test_names_with_white_space_around_them_are_quoted(tmp_path: Path) -> None:
    """Nothing showed why the file of `text, label` had no column label."""
    path = tmp_path / "d.csv"
    path.write_text("text, label,,\u00a0x y\na,b,c,d\n")
    config = Table(type="text", path=str(path))
    message = f"--task.path: {path} has no column label; it has: text, ' label', '', '\\xa0x y'"
    assert said(lambda: refuse_missing_columns(config)) == message
    assert said(TextTable(config, 0).rows) == message
    with pytest.raises(UserError, match=r"has no column 'text ', label; it has: text, "):
        refuse_missing_columns(Table(type="text", path=str(path), text_columns=["text "]))


@pytest.mark.parametrize("code", ["latin-1", "utf-16"])
@pytest.mark.parametrize("rows", [1, 500_000])
def test_another_encoding_is_told_as_by_the_whole_file(tmp_path: Path, code: str, rows: int) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(("text,label\n" + "a,b\n" * rows + "caf\u00e9,b\n").encode(code))
    config = Table(type="text", path=str(path))
    if code == "utf-16" or rows == 1:  # else the header is read, and the rest is left to the whole file
        assert said(lambda: refuse_missing_columns(config)) == said(TextTable(config, 0).rows)
    assert "is not UTF-8 (byte " in said(TextTable(config, 0).rows)
