"""Read ranks.json, also one written by hand."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeGuard, get_args

from configs.errors import UserError
from configs.schema import Constraint
from engine.ranks.record import LayerRank, RankRecord


def _number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number; JSON as Python reads it also has NaN, and whole numbers beyond every float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return value is None or (_whole(value) and value >= 0)


_MOST_K = 1_000_000  # scales are divided by it: beyond every float there is no quotient
# Field of ranks.json -> whether a value fits, and in words what does. mean_rank follows from the layers.
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "k": (lambda v: _whole(v) and 1 <= v <= _MOST_K, f"a whole number from 1 to {_MOST_K}, and one rank above 0"),
    "constraint": (lambda v: v in get_args(Constraint), ", ".join(get_args(Constraint))),
    "rule": (_text, "text"),
    "lambda": (lambda v: v is None or _number(v), "a number, null"),
    "budget": (_count, "a whole number from 0, null"),
    "layers": (lambda v: isinstance(v, list), "a list"),
    "mean_rank": (lambda v: v is None or _number(v), "a number, null"),
    "lora_parameters": (_count, "a whole number from 0, null"),
    "note": (lambda v: v is None or _text(v), "text, null"),
}
_DEFAULTS = {"constraint": "softmax", "rule": "by hand"}


def load(path: Path) -> RankRecord:
    """Reads ranks.json, also one written by hand: `layers` with name and rank is enough, k defaults to the largest
    rank; `note` is the place for words.

    Raises UserError that names the file and the entry.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("layers"), list) or not raw["layers"]:
        raise UserError(f'{path}: needs an object with a non-empty list "layers"')
    _refuse_unknown(raw, _FIELDS, str(path))
    layers = tuple(_layer(path, index, entry) for index, entry in enumerate(raw["layers"]))
    repeated = {layer.name for layer in layers if sum(x.name == layer.name for x in layers) > 1}
    if repeated:
        raise UserError(f"{path}: layer {min(repeated)!r} stands there twice")
    found: dict[str, Any] = {"k": max(layer.rank for layer in layers)} | _DEFAULTS | raw
    for key, (fits, allowed) in _FIELDS.items():
        if not fits(found.get(key)):
            raise UserError(f"{path}: {key} is {found.get(key)!r:.80}; allowed: {allowed}")
    return RankRecord(
        k=found["k"],
        layers=layers,
        constraint=found["constraint"],
        rule=found["rule"],
        threshold=found.get("lambda"),
        budget=found.get("budget"),
        lora_parameters=found.get("lora_parameters"),
        note=found.get("note"),
    )


def _layer(path: Path, index: int, entry: Any) -> LayerRank:
    where = f"{path}: layers[{index}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise UserError(f'{where}: needs an object with "name" and "rank"')
    where = f"{where} ({entry['name']})"
    _refuse_unknown(entry, [field.name for field in fields(LayerRank)], where)
    rank = entry.get("rank")
    if not _whole(rank) or rank < 0:
        raise UserError(f"{where}: rank is {rank!r:.80}; allowed: a whole number from 0")
    numbers = {}
    for key in ("alpha", "contribution"):
        values = entry.get(key, [])
        if not isinstance(values, list) or not all(_number(v) for v in values):
            raise UserError(f"{where}: {key} must be a list of numbers")
        numbers[key] = tuple(float(v) for v in values)
    return LayerRank(entry["name"], rank, numbers["alpha"], numbers["contribution"])


def _refuse_unknown(entry: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raises UserError for a field that would be passed over, and lost when the record is written again."""
    known = list(known)
    unknown = next((key for key in entry if key not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(known)}"
        raise UserError(f"{where}: unknown field {unknown!r}{hint}")
