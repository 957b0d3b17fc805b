"""Read a table from a CSV, TSV, JSON Lines or parquet file, and check its columns."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from configs.errors import UserError
from configs.json_text import GivenTwice, once
from problems.tasks.readers.delimited import read_delimited

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_MOST_LISTED = 20


def read_table(option: str, path: Path) -> pd.DataFrame:
    """All rows of a file, numbered from 0; cells of CSV and TSV stay text, as "NA" may be a word.

    Raises UserError for a missing or empty file, another format, or content that cannot be parsed.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{option}: {str(path)!r} is not allowed; allowed: a file that ends in {', '.join(FORMATS)}")
    if not path.is_file():
        raise UserError(f"{option}: no file {str(path)!r}")
    try:
        if path.suffix == ".parquet":
            table = _read_parquet(option, path)
        elif path.suffix == ".jsonl":
            table = _read_json_lines(option, path)
        else:
            text = path.read_bytes().decode("utf-8-sig")
            table = read_delimited(f"{option}: {path}", text, tabs=path.suffix == ".tsv")
    except UnicodeDecodeError as error:
        raise UserError(f"{option}: {path} is not UTF-8 (byte {error.start})") from error
    except (ValueError, OSError, pa.ArrowException) as error:
        raise UserError(f"{option}: {path} cannot be read ({str(error).splitlines()[0]})") from error
    if table.empty:
        raise UserError(f"{option}: {path} has no rows")
    table.columns = table.columns.map(str)  # names as the options give them, also where they are numbers
    return table.reset_index(drop=True)


def _read_parquet(option: str, path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except pa.ArrowException:  # `read_table` reports these; without this, the next `except` would catch some of them
        raise
    except (KeyError, TypeError) as error:  # pandas raises these if its own metadata in the file have another form
        raise UserError(
            f"{option}: {path} cannot be read, as the metadata of pandas in it are damaged; allowed: a file with the "
            f"metadata that pandas writes, or without them"
        ) from error
    # With a name, the index is a column that pandas saved as the index.
    return table if table.index.name is None else table.reset_index()


def _read_json_lines(option: str, path: Path) -> pd.DataFrame:
    plain: Any = {"dtype": False, "convert_dates": False, "convert_axes": False}
    try:
        table = pd.read_json(path, lines=True, encoding="utf-8-sig", **plain)
    except TypeError as error:  # pandas raises this for null, a number or a list among objects
        raise UserError(f"{option}: {path} has a line that is no JSON object; allowed: one object a line") from error
    _refuse_twice(option, path)
    return table


def _refuse_twice(option: str, path: Path) -> None:
    """Raises UserError for a name that one line gives twice: pandas keeps the last value."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        try:
            json.loads(line or "{}", object_pairs_hook=once)
        except GivenTwice as error:
            raise UserError(f"{option}: {path}, line {number}: {error}; allowed: once") from error
        except (ValueError, RecursionError):  # pandas has read the line: blanks alone, or a value that nests deeply
            continue


def require_columns(option: str, path: Path, table: pd.DataFrame, names: Sequence[str]) -> None:
    """Raises UserError, naming the file, for a column that is missing, occurs twice or is asked for twice."""
    again = [name for name in names if names.count(name) > 1]
    if again:
        raise UserError(f"--task.text_columns, --task.label_column: {again[0]!r} is named twice; allowed: once")
    known = list(table.columns)
    missing = [name for name in names if name not in known]
    if missing:
        listed = ", ".join(known[:_MOST_LISTED]) + (
            f" and {len(known) - _MOST_LISTED} more" if known[_MOST_LISTED:] else ""
        )
        raise UserError(f"{option}: {path} has no column {', '.join(missing)}; it has: {listed}")
    twice = [name for name in names if known.count(name) > 1]
    if twice:
        raise UserError(f"{option}: {path} has column {twice[0]!r} {known.count(twice[0])} times; allowed: once")
