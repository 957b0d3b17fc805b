"""The rows of a JSON Lines, JSON or parquet file: one object each, as Python's own lists and dictionaries."""

import json
from collections.abc import Hashable, Mapping, Sequence
from datetime import date
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from autolora.configs.endings import OBJECTS, ending, refuse_other_ending
from autolora.configs.errors import UserError
from autolora.configs.json_text import GivenTwice, once
from autolora.problems.encoding import utf8
from autolora.problems.tasks.readers.numbering import LINE, Numbered, at, in_words

_KINDS: tuple[tuple[Any, str], ...] = (
    (str, "a text"), (bytes, "bytes"), (bool | np.bool_, "true or false"), (Number | np.number, "a number"),
    (Mapping, "an object"), (date, "a date"),
)  # fmt: skip


def looked_in(path: Path) -> str:
    """Where the program looked for a relative path, for a message; empty for an absolute one."""
    return "" if path.is_absolute() else f" in {Path.cwd()}"


def read_objects(option: str, path: Path) -> Numbered:
    """All rows of a file, in their order; those of JSON Lines are numbered by line.

    Raises UserError for a missing or empty file, another format, or content that cannot be parsed, with its line.
    """
    refuse_other_ending(option, path, OBJECTS)
    if not path.is_file():
        raise UserError(f"{option}: no file {str(path)!r}{looked_in(path)}")
    try:
        found = _parquet(path) if ending(path) == ".parquet" else _json(option, path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{option}: {path} cannot be read ({str(error).splitlines()[0]})") from error
    if not found.rows:
        raise UserError(f"{option}: {path} has no rows")
    return found


def _parquet(path: Path) -> Numbered:
    return Numbered.by_row(pq.read_table(path).to_pylist())


def _json(option: str, path: Path) -> Numbered:
    text = utf8(f"{option}: {path}", path)
    # Not splitlines(): it also splits at characters that may stand inside a JSON text.
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    # JSON Lines often stand in a .json file, too.
    if ending(path) == ".jsonl" or (lines and all(_is_object(line) for _, line in lines[:2])):
        rows = [_parsed(f"{option}: {path}, line {number}", line) for number, line in lines]
        found = Numbered(rows, [number for number, _ in lines], LINE)
    else:
        rows = _parsed(f"{option}: {path}", text)
        if not isinstance(rows, list):
            raise UserError(
                f"{option}: {path} is not a list of objects; allowed: a list of objects, or one object a line"
            )
        found = Numbered.by_row(rows)
    for number, row in zip(found.numbers, found.rows, strict=True):
        if not isinstance(row, dict):
            allowed = "one object a line" if found.unit == LINE else "objects alone"
            raise UserError(f"{option}: {path}, {at(found.unit, number)}: is no object; allowed: {allowed}")
    return found


def read_json(where: str, path: Path) -> Any:
    """The value in a file. Raises UserError that begins with `where` when it is no JSON."""
    return _parsed(where, utf8(where, path))


def _is_object(line: str) -> bool:
    if not line.lstrip().startswith("{"):  # a whole file may be one line
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=once)
    except GivenTwice as error:
        raise UserError(f"{where}: {error}; allowed: once") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is no JSON ({str(error).splitlines()[0]})") from error


def sound(where: str, text: str) -> str:
    """The text. Raises UserError for a lone surrogate (half a character): JSON can escape it, UTF-8 cannot encode
    it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds a broken character (half of a surrogate pair, {text[error.start]!a}); remove the row"
        ) from None
    return text


def refuse_empty(where: str, unit: Hashable, empty: Mapping[str, Sequence[Hashable]]) -> None:
    """Raises UserError if there are rows with an empty cell, so that all of them can be mended at once.

    `empty`: what is wrong -> the numbers of all rows where it is, counted in `unit` (see `Numbered`). A single row is
    named; of more, the first few.
    """
    faults = {fault: rows for fault, rows in empty.items() if rows}
    if not faults:
        return
    if sum(map(len, faults.values())) == 1:
        ((fault, (row,)),) = faults.items()
        raise UserError(f"{where}, {at(unit, row)}: {fault}; fill it in or remove the row")
    told = " and ".join(f"{fault} in {in_words(unit, rows)}" for fault, rows in faults.items())
    raise UserError(f"{where}: {told}; fill them in or remove the rows")


def no_text(column: str) -> str:
    """What is wrong with a cell without text, in words."""
    return f"column {column!r} has no text"


def lacks_text(value: Any) -> bool:
    """Whether a cell that should have a text is empty, null or white space; one with something else is not."""
    return not value.strip() if isinstance(value, str) else kind_of(value) == "nothing"


def filled(where: str, column: str, value: Any) -> str:
    """The text of a cell. Raises UserError for a cell without text, or with something else."""
    if isinstance(value, str) and value.strip():
        return sound(f"{where}: column {column!r}", value)
    if lacks_text(value):
        raise UserError(f"{where}: {no_text(column)}")
    raise UserError(f"{where}: column {column!r} holds {kind_of(value)}; allowed: a text")


def kind_of(value: Any) -> str:
    """What stands in a cell, in words."""
    if isinstance(value, list | np.ndarray):
        return "a list" if len(value) else "nothing"
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "nothing"
    found = (words for types, words in _KINDS if isinstance(value, types))
    return next(found, f"something of type {type(value).__name__}")
