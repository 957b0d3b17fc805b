"""The cells of CSV and TSV text, row by row. Refuses, naming the line, too many cells and, in CSV, a broken quote.

CSV is RFC 4180: a cell with a comma, a double quote or a line end stands in double quotes, those inside it doubled.
In TSV a double quote is a plain character, as in GLUE's files, with one exception: the two quotes that enclose a whole
cell, as spreadsheets and pandas write them, are taken off. Such a cell may have line ends, but no tab. So a stray
quote at the beginning of a cell does harm only if the next quote stands at the end of a cell and no tab lies between
the two: then they enclose one cell. Python's csv module cannot read this: in it either every quote is plain, or a
stray one opens a cell that goes on to the next quote.
"""

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from autolora.configs.endings import ending
from autolora.configs.errors import UserError
from autolora.configs.plain import shortened
from autolora.problems.encoding import utf8

# An enclosed or plain cell, and its end. Possessive (`++`): texts may be long, and a shorter match never fits better.
_TSV_CELL = re.compile(r'(?:"((?:[^"\t]++|"")*+)"|([^\t\r\n]*))(\t|\r\n?|\n|\Z)')


_LINE_END = re.compile(r"\r\n?|\n")

_LONGEST_HEADER = 1_000_000
"""The most characters of a file in which its header is looked for."""


class Delimited(NamedTuple):
    """The names of the columns, the rows below them, and the line (counted from 1) of the text where each row begins.

    Blank lines are no rows, and a cell in quotes may span several lines, so that only the line finds a row in an
    editor."""

    header: list[str]
    rows: list[list[str]]
    lines: list[int]


def read_header(where: str, path: Path) -> list[str]:
    """The names of the columns of a CSV or TSV file, of which the beginning is read; empty if it does not tell them.

    `where` begins the message of a UserError for columns that something else separates, and for another encoding."""
    tabs = ending(path) == ".tsv"
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read(_LONGEST_HEADER)
        _refuse_one_cell(where, text, tabs)
        cut = len(text) == _LONGEST_HEADER  # then the last row may be cut: it is no header
        rows = _tsv_rows(text) if tabs else _csv_rows(text)
        found = [row for _, row in islice(rows, 1 + cut)]
    except UnicodeDecodeError:
        utf8(where, path)  # raises the refusal, for which the whole file is read
        return []
    except (OSError, csv.Error):
        return []
    return found[0] if len(found) > cut else []


def read_delimited(where: str, text: str, *, tabs: bool) -> Delimited:
    """The columns, which a text's first row names, and its other rows; a short row is filled up with "".

    `where` begins the message of a UserError: for columns that something else separates, for a row with more cells
    than columns, and for a broken quote in CSV.
    """
    _refuse_one_cell(where, text, tabs)
    (_, header), *found = (list(_tsv_rows(text)) if tabs else _all_csv_rows(where, text)) or [(1, [])]
    for line, row in found:
        if len(row) > len(header):
            hint = "a cell can hold no tab" if tabs else "a cell with a comma must stand in double quotes"
            raise UserError(f"{where}, line {line}: {len(row)} cells, but the header has {len(header)}; {hint}")
        row.extend([""] * (len(header) - len(row)))
    return Delimited(header, [row for _, row in found], [line for line, _ in found])


def _refuse_one_cell(where: str, text: str, tabs: bool) -> None:
    """Refuses a first line whose columns something other than a tab (.tsv) or a comma (.csv) separates."""
    header = next(filter(str.strip, io.StringIO(text, newline=None)), "").rstrip("\n")
    if ("\t" if tabs else ",") not in header and any(mark in header for mark in (";", "|", "," if tabs else "\t")):
        raise UserError(
            f"{where}: the header is one cell, {shortened(header)!r}; allowed: columns that are separated by "
            f"{'tabs (.tsv)' if tabs else 'commas (.csv)'}; a .{'csv' if tabs else 'tsv'} file has "
            f"{'commas' if tabs else 'tabs'}"
        )


def _all_csv_rows(where: str, text: str) -> list[tuple[int, list[str]]]:
    usual = csv.field_size_limit(max(len(text), 1))  # the default is 131,072 characters; a text may be longer
    try:
        return list(_csv_rows(text))
    except csv.Error as error:
        raise UserError(
            f"{where}, {error}: a cell in double quotes is not closed, or has text after its closing quote; quotes "
            f"inside it must be doubled"
        ) from None
    finally:
        csv.field_size_limit(usual)


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line where it begins. Raises csv.Error, whose text is "line" and where a torn row begins."""
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for row in reader:
            if not _blank(row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error:
        raise csv.Error(f"line {line}") from None


def _tsv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line where it begins."""
    row: list[str] = []
    begins = line = 1
    for cell in _TSV_CELL.finditer(text):
        enclosed, plain, end = cell.groups("")
        row.append(enclosed.replace('""', '"') or plain)
        line += len(_LINE_END.findall(enclosed))
        if end != "\t":
            if not _blank(row):
                yield begins, row
            row = []
            begins = line = line + 1


def _blank(row: list[str]) -> bool:
    """Whether a line has nothing but white space: then it is not a row, as in pandas."""
    return len(row) <= 1 and not "".join(row).strip()
