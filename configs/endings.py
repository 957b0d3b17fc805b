"""The endings of the files that tasks read, in small letters. Capitals do not matter: D.CSV is read as d.csv is."""

from collections.abc import Sequence
from pathlib import Path

from autolora.configs.errors import UserError

DELIMITED = (".csv", ".tsv")
TABLES = (*DELIMITED, ".jsonl", ".parquet")
OBJECTS = (".jsonl", ".json", ".parquet")
CHATS = (*OBJECTS, *DELIMITED)
CONLL = (".conll", ".iob2", ".tsv", ".txt")
TAGGED = (*CONLL, ".jsonl", ".parquet")
OF_FILES = tuple(dict.fromkeys((*CHATS, *TAGGED)))
"""A path with such an ending means a file and not a data set of the hub, also where there is no such file."""


def ending(path: str | Path) -> str:
    """The ending of a file's name, with its dot, in small letters; empty if it has none."""
    return Path(path).suffix.lower()


def refuse_other_ending(option: str, path: str | Path, allowed: Sequence[str]) -> None:
    """Raises UserError for a file whose ending is not among the allowed ones."""
    if ending(path) not in allowed:
        raise UserError(f"{option}: {str(path)!r} is not allowed; allowed: a file that ends in {', '.join(allowed)}")
