"""The columns that a user's table must have. Nothing here needs pandas or torch, so a wrong name is told before these
are loaded."""

from collections.abc import Sequence
from pathlib import Path

from autolora.configs.endings import DELIMITED, ending
from autolora.configs.errors import UserError
from autolora.configs.places import from_home
from autolora.configs.plain import shortened
from autolora.configs.tasks import Table
from autolora.problems.delimited import read_header

_MOST_LISTED = 20


def text_columns(config: Table, known: Sequence[str]) -> list[str]:
    """The columns with the texts, in a training file that has the columns `known`."""
    if config.text_columns is not None:
        return list(config.text_columns)
    return ["text"] if "text" in known or "sentence" not in known else ["sentence"]


def label_column(config: Table) -> str:
    """The column with the label."""
    return config.label_column or "label"


def require_text_and_label(
    option: str, path: Path, known: Sequence[str], columns: Sequence[str], label_column: str
) -> None:
    """Raises UserError as `require_columns` does, and for a text column whose name the rows use for the label."""
    if "label" in columns and label_column != "label":
        raise UserError("--task.text_columns: 'label' is not allowed beside another task.label_column; rename it")
    require_columns(option, path, known, [*columns, label_column])


def require_columns(option: str, path: Path, known: Sequence[str], names: Sequence[str]) -> None:
    """Raises UserError, naming the file, for a column that is missing, occurs twice or is asked for twice."""
    again = [name for name in names if names.count(name) > 1]
    if again:
        raise UserError(f"--task.text_columns, --task.label_column: {again[0]!r} is named twice; allowed: once")
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(f"{option}: {path} has no column {', '.join(map(as_told, missing))}; it has: {listed(known)}")
    twice = [name for name in names if known.count(name) > 1]
    if twice:
        raise UserError(f"{option}: {path} has column {twice[0]!r} {known.count(twice[0])} times; allowed: once")


def listed(names: Sequence[str]) -> str:
    """The names of columns for a message; of many only the first."""
    more = f" and {len(names) - _MOST_LISTED} more" if names[_MOST_LISTED:] else ""
    return f"{', '.join(map(as_told, names[:_MOST_LISTED]))}{more}"


def as_told(name: str) -> str:
    """A column's name for a message, shortened; in quotes if it is empty or has white space around it."""
    return shortened(name if name and name == name.strip() else repr(name))


def refuse_missing_columns(config: Table) -> None:
    """Refuses CSV and TSV files of task.type text without a column that is needed, from their headers alone.

    What a header does not tell is left to the reading of the whole file."""
    split = config.evaluated_split
    columns = config.text_columns
    for option, name in ("--task.path", config.path), (f"--task.{split}_path", config.file_of(split)):
        path = Path(from_home(str(name)))
        if name is None or ending(path) not in DELIMITED or not path.is_file():
            continue
        known = read_header(f"{option}: {path}", path)
        if known and option == "--task.path":
            columns = text_columns(config, known)
        if known and columns is not None:
            require_text_and_label(option, path, known, columns, label_column(config))
