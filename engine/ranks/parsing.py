"""Read ranks.json, which a search or a person wrote."""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from autolora.configs.errors import UserError
from autolora.configs.search import Constraint
from autolora.configs.training import LoraRetrain
from autolora.engine.disk.files import is_number, load_json
from autolora.engine.measure import evidence
from autolora.engine.ranks.record import LayerRank, RankRecord


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


_LISTS = [name for name, kind in get_type_hints(LayerRank).items() if kind == tuple[float, ...]]
_NUMBERS = [name for name, kind in get_type_hints(LayerRank).items() if kind == float | None]
_SCALES: tuple[str, ...] = get_args(LoraRetrain.model_fields["scale"].annotation)
_MOST_K = 1_000_000  # a scale is divided by k, so k must not be too large for a float
# Field of ranks.json -> a test of its value, and the allowed values in words. mean_rank is checked but not used.
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "k": (
        lambda v: _count(v) and 1 <= v <= _MOST_K,
        f"a whole number from 1 to {_MOST_K} (if k is left out: at least one rank above 0)",
    ),
    "constraint": (lambda v: v in get_args(Constraint), ", ".join(get_args(Constraint))),
    "rule": (_text, "text"),
    "lambda": (_or_null(is_number), "a number, null"),
    "budget": (_or_null(_count), "a whole number from 0, null"),
    "layers": (lambda v: isinstance(v, list), "a list"),
    "mean_rank": (_or_null(is_number), "a number, null"),
    "lora_parameters": (_or_null(_count), "a whole number from 0, null"),
    "lora_alpha": (_or_null(lambda v: is_number(v) and v > 0), "a number above 0, null"),
    "scale": (_or_null(lambda v: v in _SCALES), f"{', '.join(_SCALES)}, null"),
    "base_model": (_or_null(_text), "text, null"),
    "revision": (_or_null(_text), "text, null"),
    "note": (_or_null(_text), "text, null"),
}


def load(path: Path) -> RankRecord:
    """Reads ranks.json.

    A file written by hand needs only `layers`, each with name and rank. k defaults to the largest rank, and `note` may
    hold any text. Raises UserError that names the file and the entry.
    """
    raw = _content(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("layers"), list) or not raw["layers"]:
        raise UserError(f'{path}: needs an object with a non-empty list "layers"')
    _refuse_unknown(raw, (*_FIELDS, *evidence.KEYS), str(path))
    layers = tuple(_layer(f"{path}: layers[{index}]", entry) for index, entry in enumerate(raw["layers"]))
    repeated = {layer.name for layer in layers if sum(x.name == layer.name for x in layers) > 1}
    if repeated:
        raise UserError(f"{path}: layer {min(repeated)!r} is given twice")
    defaults = {"k": max(layer.rank for layer in layers), "constraint": "softmax", "rule": "by hand"}
    found: dict[str, Any] = defaults | raw
    for key, (fits, allowed) in _FIELDS.items():
        if not fits(found.get(key)):
            raise UserError(f"{path}: {key} is {found.get(key)!r:.80}; allowed: {allowed}")
    same_name = {field.name for field in fields(RankRecord)} & _FIELDS.keys() - {"layers"}
    taken: dict[str, Any] = {key: found.get(key) for key in same_name}
    record = RankRecord(layers=layers, threshold=found.get("lambda"), **taken)
    measured = evidence.from_json(raw, str(path))
    return record if measured is None else replace(record, evidence=measured[0], tolerance=measured[1])


def _content(path: Path) -> Any:
    try:
        return load_json(path)
    except UserError as error:
        way_out = "remove the file, and the run's command with --stage search writes it again"
        told = f"; {way_out} (one written by hand: mend it)" if path.exists() else ""
        raise UserError(f"{error}{told}") from error


def _layer(where: str, entry: Any) -> LayerRank:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise UserError(f'{where}: needs an object with "name" and "rank"')
    where = f"{where} ({entry['name']})"
    _refuse_unknown(entry, [field.name for field in fields(LayerRank)], where)
    rank: Any = entry.get("rank")
    if not _count(rank) or rank > _MOST_K:
        raise UserError(f"{where}: rank is {rank!r:.80}; allowed: a whole number from 0 to {_MOST_K}")
    found = dict(entry)
    for key in _LISTS:
        values = entry.get(key, [])
        if not isinstance(values, list) or not all(map(is_number, values)):
            raise UserError(f"{where}: {key} must be a list of numbers")
        found[key] = tuple(map(float, values))
    for key in _NUMBERS:
        if not _or_null(is_number)(entry.get(key)):
            raise UserError(f"{where}: {key} is {entry[key]!r:.80}; allowed: a number, null")
    if not isinstance(entry.get("decided"), bool | None):
        raise UserError(f"{where}: decided is {entry['decided']!r:.80}; allowed: true, false, null")
    return LayerRank(**found)


def _refuse_unknown(entry: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raises UserError for an unknown field: it would be ignored, and lost when the record is written again."""
    unknown = next((key for key in entry if key not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(known)}"
        raise UserError(f"{where}: unknown field {unknown!r}{hint}")
