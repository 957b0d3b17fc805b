"""How a message calls a row of the user's data: by its line of the file, which an editor shows, else by its number."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Self

Row = dict[str, Any]

LINE, ROW = "line", "row"

_MOST_NAMED = 5


class Numbered(NamedTuple):
    """Rows, and the number of each in messages.

    `unit`: what is counted, from 1. LINE: the lines of a text file, so that a row's number is that of the line where
    it begins; ROW: the rows, as the format has no lines, or the lines are not known. A table has the same two in its
    index, as the index's name and its values."""

    rows: list[Row]
    numbers: Sequence[int]
    unit: str

    @classmethod
    def by_row(cls, rows: list[Row]) -> Self:
        """Rows of which no line is known."""
        return cls(rows, range(1, len(rows) + 1), ROW)


def at(unit: Hashable, number: Hashable) -> str:
    """The place of a row, for the beginning of a message about it."""
    return f"line {number}" if unit == LINE else f"row {number} (counted from 1)"


def in_words(unit: Hashable, numbers: Sequence[Hashable]) -> str:
    """How many rows these are, and the places of the first few."""
    plural = "s" if len(numbers) > 1 else ""
    listed = ", ".join(map(str, numbers[:_MOST_NAMED])) + (", ..." if len(numbers) > _MOST_NAMED else "")
    where = f"line{plural} {listed}" if unit == LINE else f"number{plural} {listed}, counted from 1"
    return f"{len(numbers)} row{plural} ({where})"
