"""The names of tags and classes given as numbers: from the column's type, a label.json, or a known data set."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from autolora.configs.endings import ending
from autolora.configs.errors import UserError
from autolora.problems.tasks.labels import label_text
from autolora.problems.tasks.readers.objects import read_json

_TYPES = {
    "tner/bionlp2004": ("DNA", "protein", "cell_type", "cell_line", "RNA"),
    "jnlpba/jnlpba": ("DNA", "RNA", "cell_line", "cell_type", "protein"),
}
"""Known data sets of the hub, with the entities in the order in which their tags are numbered."""


def names_of_hub(path: str) -> list[str] | None:
    """The tags of a known data set, by number: O, then B- and I- of each type; None for another one."""
    types = _TYPES.get(path)
    return ["O", *(f"{place}-{name}" for name in types for place in "BI")] if types else None


def names_beside(option: str, file: Path, column: str) -> list[str] | None:
    """The tags by number that a file or its folder names; None if neither does.

    They are in the type of the column, which datasets writes into parquet, or in a label.json beside the file,
    {"O": 0, "B-DNA": 1, ...}. Raises UserError for a label.json of another form.
    """
    if names := names_in_parquet(file, column):
        return names
    path = file.with_name("label.json")
    if not path.is_file():
        return None
    found = read_json(f"{option}: {path}", path)
    if not isinstance(found, dict) or sorted(map(repr, found.values())) != sorted(map(repr, range(len(found)))):
        raise UserError(f'{option}: {path} is not allowed; allowed: each tag with its number: {{"O": 0, "B-X": 1}}')
    return sorted(found, key=found.__getitem__)


def names_in_parquet(file: Path, column: str) -> list[str] | None:
    """The names by number in the type of a column, which datasets writes into parquet; None without them, and for a
    file of another format."""
    return (_class_names(_type_in_parquet(file, column)) or None) if ending(file) == ".parquet" else None


def _type_in_parquet(file: Path, column: str) -> Any:
    """The column's type as datasets writes it; None if the file has no such entry, or one of another form."""
    try:
        found = json.loads((pq.read_schema(file).metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        return None
    for key in ("info", "features", column):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _class_names(feature: Any) -> list[str] | None:
    """The names in a column's type, as datasets writes it: a class label, or a list of them."""
    inner = feature[0] if isinstance(feature, list) and feature else feature
    inner = inner.get("feature", inner) if isinstance(inner, dict) else {}
    names = inner.get("names") if isinstance(inner, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else None


def named_class(where: str, column: str, label: Any, names: Sequence[str]) -> Any:
    """The name of a class that is given as its number, also as 1.0, which pandas makes of it beside a null; a text and
    an empty cell stay. Raises UserError for a number without a name."""
    if not isinstance(label, int | float | np.number) or label != label:
        return label
    if not 0 <= label < len(names) or label != int(label):
        raise UserError(
            f"{where}: column {column!r} holds {label_text(label)}, but its type names the classes 0 to "
            f"{len(names) - 1} ({', '.join(names[:10])}); remove the row"
        )
    return names[int(label)]


def named(where: str, column: str, tags: Sequence[Any], names: Sequence[str] | None) -> list[Any]:
    """The tags of a sentence with names in place of numbers. Raises UserError for a number without a name."""
    given = [tag for tag in tags if not isinstance(tag, str)]
    if not given or not all(isinstance(tag, int) and not isinstance(tag, bool) for tag in given):
        return list(tags)
    if names is None:
        raise UserError(
            f"{where}: column {column!r} holds the number {given[0]}, whose tag is not known; allowed: tags as "
            f'texts, or a label.json beside the file: {{"O": 0, "B-X": 1}}'
        )
    wrong = [tag for tag in given if not 0 <= tag < len(names)]
    if wrong:
        raise UserError(f"{where}: column {column!r} holds {wrong[0]}; allowed: 0 to {len(names) - 1}")
    return [tag if isinstance(tag, str) else names[tag] for tag in tags]
