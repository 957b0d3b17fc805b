"""Objects from JSON Lines, JSON and parquet; what is none is refused with its place."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.problems.tasks.readers.objects import filled, read_objects
from autolora.problems.tasks.readers.table import read_table

ROWS = [{"messages": [{"role": "user", "content": "a\u2028b"}], "n": 1}, {"messages": [], "n": 2}]


@pytest.mark.parametrize("endings", ["jsonl json parquet", "JSONL Json PARQUET"])
def test_the_three_formats_hold_the_same(tmp_path: Path, endings: str) -> None:
    lines, listed, table = (tmp_path / f"a.{kind}" for kind in endings.split())
    lines.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in ROWS), encoding="utf-8-sig")
    listed.write_text(json.dumps(ROWS))
    pd.DataFrame(ROWS).to_parquet(table)
    for path in (lines, listed, table):
        assert read_objects("--task.path", path).rows == ROWS


def test_a_row_is_called_by_its_line_where_the_file_has_lines(tmp_path: Path) -> None:
    """Blank lines were not counted, so that "row 2" was not the second line."""
    text = "\n" + "\n\n".join(json.dumps(row) for row in ROWS)
    for name in ("a.jsonl", "a.json"):
        (tmp_path / name).write_text(text)
        assert read_objects("--task.path", tmp_path / name)[1:] == ([2, 4], "line")
        (tmp_path / name).write_text(text + "\n\n3\n")
        with pytest.raises(UserError, match=rf"{name}, line 6: is no object; allowed: one object a line$"):
            read_objects("--task.path", tmp_path / name)
    (tmp_path / "a.json").write_text(json.dumps([*ROWS, 3], indent=1))
    with pytest.raises(UserError, match=r"a\.json, row 3 \(counted from 1\): is no object; allowed: objects alone$"):
        read_objects("--task.path", tmp_path / "a.json")


def test_json_lines_may_stand_in_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8-sig")
    assert read_objects("--task.path", path).rows == ROWS
    path.write_text(json.dumps(ROWS[0]) + "\n")
    assert read_objects("--task.path", path).rows == ROWS[:1], "one line is enough"
    path.write_text(json.dumps(ROWS, indent=1))
    assert read_objects("--task.path", path).rows == ROWS


BAD = {
    "a.csv": ("x", "is not allowed; allowed: a file that ends in .jsonl, .json, .parquet"),
    "a.jsonl": ('{"a": 1}\n{"a"', "line 2: is no JSON"),
    "twice.jsonl": ('{"a": 1}\n{"a": {"b": 1, "b": 2}}\n', "line 2: 'b' is given twice in one object; allowed: once"),
    "deep.jsonl": ("[" * 200_000, "line 1: is no JSON"),
    "b.jsonl": ("[1]\n", "line 1: is no object"),
    "c.jsonl": ("\n", "has no rows"),
    "a.json": ("1", "is not a list of objects; allowed: a list of objects, or one object a line"),
    "lines.json": ('{"a": 1}\n{"a": 2}\n{"a"', "line 3: is no JSON"),
    "pretty.json": ('{\n"a": 1\n}', "is not a list of objects; allowed: a list of objects, or one object a line"),
    "b.json": ("[1", "is no JSON"),
    "c.json": ("[]", "has no rows"),
    "a.parquet": ("x", "cannot be read"),
    "d.json": (b"\xff", "is not UTF-8"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_file_is_one_line(tmp_path: Path, name: str) -> None:
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read_objects("--task.path", tmp_path / name)
    message = str(caught.value)
    assert message.startswith("--task.path: ")
    assert words in message
    assert name in message
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
@pytest.mark.parametrize("code", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_is_told_with_the_command_that_converts_it(
    tmp_path: Path, suffix: str, code: str
) -> None:
    path = tmp_path / f"my data{suffix}"
    path.write_bytes("text\na caf\u00e9\n".encode(code))
    with pytest.raises(UserError) as caught:
        (read_objects if "json" in suffix else read_table)("--task.path", path)
    place, name = ("byte 10, line 2", "latin1") if code == "latin-1" else ("byte 0, line 1", "utf-16")
    assert str(caught.value) == (
        f"--task.path: {path} is not UTF-8 ({place}); to convert it: iconv -f {name} -t utf-8 '{path}' > new{suffix}"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "has no text"), (" ", "has no text"), (float("nan"), "has no text"), ([], "has no text"),
        (3, "holds a number"), (np.float32(3), "holds a number"), (True, "holds true or false"),
        (b"a", "holds bytes"), (np.array(["a", "b"]), "holds a list"), ({}, "holds an object"),
        (pd.Timestamp("2026-01-01"), "holds a date"), ({1}, "holds something of type set"),
    ],
)  # fmt: skip
def test_what_stands_in_place_of_a_text_is_said(value: Any, words: str) -> None:
    allowed = "" if words == "has no text" else "; allowed: a text"
    with pytest.raises(UserError, match=rf"^row 3: column 'text' {words}{allowed}$"):
        filled("row 3", "text", value)


def test_a_missing_file_is_named() -> None:
    """A relative path with the folder in which the program looked: a run's config.yaml may be read from another."""
    with pytest.raises(UserError, match=rf"^--task\.path: no file 'none\.jsonl' in {re.escape(str(Path.cwd()))}$"):
        read_objects("--task.path", Path("none.jsonl"))
    with pytest.raises(UserError, match=r"^--task\.path: no file '/none\.jsonl'$"):
        read_objects("--task.path", Path("/none.jsonl"))
