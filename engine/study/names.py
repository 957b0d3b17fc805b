"""The names of a study's cells, which are the names of their folders."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from autolora.engine.study.values import word

_LONGEST = 100
"""Letters of a cell's name."""


def cell_name(values: Mapping[str, Any]) -> str:
    """A folder name from a cell's values, like `type-darts_seed-0`; it has whole keys if two end in the same word.

    A long name is cut. It then ends in digits of a hash of the whole, as does a name from values in other alphabets,
    whose letters a folder name here lacks."""
    written = _written(values)
    if not written.isascii():
        return _marked(_plain(written), written)
    name = _plain(written)
    return name if len(name) <= _LONGEST else _marked(name, name)  # the end that is cut off may hold the seed


def cell_names(places: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each of a study's cells. Of several cells that would have one name, the first keeps it and the
    others end in digits of a hash of their values, so that a study to which values are added finds its finished cells.

    Names that differ only in capitals count as one, since they are one folder on macOS. Equal values keep equal names,
    which `expand` refuses."""
    names: list[str] = []
    taken: dict[str, str] = {}
    for values in places:
        name, written = cell_name(values), _written(values)
        if taken.setdefault(name.casefold(), written) != written:
            name = _marked(_plain(written), written)
        names.append(name)
    return names


def _written(values: Mapping[str, Any]) -> str:
    """The values after the last words of their keys."""
    last = [key.split(".")[-1] for key in values]
    keys = [key if last.count(short) > 1 else short for key, short in zip(values, last, strict=True)]
    return "_".join(f"{key}-{word(value).strip('[]')}" for key, value in zip(keys, values.values(), strict=True))


def _plain(written: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", written).strip("-_.")


def _marked(name: str, whole: str) -> str:
    """The name, cut if it is long, and digits of a hash of the `whole`."""
    mark = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: _LONGEST - len(mark) - 1]}-{mark}"
