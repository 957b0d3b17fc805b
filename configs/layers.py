"""Layers of settings: defaults < files < command line < a study's cell.

Inside, a layer is flat: dotted key -> value. A layer that chooses another method, type or rule
drops, from the layers below it, the keys that the new choice lacks. A key of the last layer that
the choice lacks is refused.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from autolora.configs.errors import UserError
from autolora.configs.measure import ChooseConfig, Threshold
from autolora.configs.schema import METHODS, Autolora, RunConfig, Sources
from autolora.configs.search import BUILT_IN, OWN_CLASS, OwnHypergradient
from autolora.configs.section import Mark
from autolora.configs.tasks import AnyTask
from autolora.configs.user_class import is_own
from autolora.configs.words import takes


def _by(tag: str, union: Any) -> dict[str, type[BaseModel]]:
    """Value of the tag -> the class of the union that it chooses."""
    return {
        get_args(kind.model_fields[tag].annotation)[0]: kind
        for kind in get_args(get_args(union)[0])
    }


CHOICES: dict[str, dict[str, type[BaseModel]]] = {
    "method": {**METHODS},
    "task.type": _by("type", AnyTask),
    "hypergradient.type": {**BUILT_IN, OWN_CLASS: OwnHypergradient},
    "choose.rule": _by("rule", ChooseConfig),
}
"""Key that chooses a class -> its values, each with its class."""
TAGS = dict(choice.split(".") for choice in CHOICES if "." in choice)
"""Section that is a union -> the key by which its classes are told apart."""
DEFAULTS = {"method": Autolora().method} | {
    f"{section}.{tag}": getattr(getattr(Autolora(), section), tag) for section, tag in TAGS.items()
}
"""What is chosen without a word."""
OF_PLACE = tuple(
    f"task.{key}"
    for key in (
        "name",
        "revision",
        "configuration",
        "data_files",
        "train_split",
        "evaluation_split",
        "validation_path",
        "test_path",
        "text_columns",
        "label_column",
    )
)
"""Keys that belong to task.path: a layer that gives another path or type drops them from those
below it."""
FORMER = {
    "answer": "measure and --choose",
    "answer.rule": "choose.rule",
    "answer.budget": "choose.budget",
    "answer.tolerance": "choose.tolerance",
    "answer.from": "measure.from",
    "answer.rows": "measure.rows",
    "answer.curve_ranks": "measure.curve_ranks",
    "answer.curve_budgets": "measure.curve_budgets",
}
"""Keys under their former names -> their names now."""
OF_THRESHOLD = ("search.patience", "search.check_every")
"""Keys that belong to choose.rule threshold, though they stand in the section of the search that
they end."""


class Key(NamedTuple):
    """A key as one choice has it, such as lora.r of ("method", "lora")."""

    choice: str
    value: str
    field: FieldInfo


@cache
def keys() -> Mapping[str, list[Key]]:
    """Every dotted key, with the values of each choice that have it while the other choices are the
    defaults."""
    found: dict[str, list[Key]] = {}
    for choice, classes in CHOICES.items():
        for value in classes:
            for key, field in _fields(*{**DEFAULTS, choice: value}.values()).items():
                found.setdefault(key, []).append(Key(choice, value, field))
    return found


@cache
def _fields(*chosen: str) -> Mapping[str, FieldInfo]:
    """The dotted keys that a run with these choices has, which stand in the order of CHOICES."""
    kinds = {choice: CHOICES[choice][value] for choice, value in zip(CHOICES, chosen, strict=True)}
    found = dict(_walk(kinds["method"], "", kinds))
    by_threshold = kinds["choose.rule"] is Threshold
    return {key: found[key] for key in found if key not in OF_THRESHOLD or by_threshold}


def _walk(
    kind: type[BaseModel], prefix: str, kinds: Mapping[str, type[BaseModel]]
) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in kind.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        classes = [
            one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)
        ]
        # of a section that may be absent, too
        inner = [one for one in classes if issubclass(one, BaseModel)]
        if key in TAGS:
            yield from _walk(kinds[f"{key}.{TAGS[key]}"], f"{key}.", kinds)
        elif inner:
            yield from _walk(inner[0], f"{key}.", kinds)
        else:
            yield key, field


@cache
def _sections() -> set[str]:
    return {key[:at] for key in keys() for at, letter in enumerate(key) if letter == "."}


def flat(given: Mapping[str, Any] | Iterable[tuple[str, Any]], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of a tree of sections, in which dotted keys may stand, too. A mapping
    that is a key's value stays whole, an empty section is nothing, and a word in place of one
    chooses its class (task: text).

    Raises UserError for a key that is given twice.
    """
    found: dict[str, Any] = {}
    pairs = given.items() if isinstance(given, Mapping) else given
    for key, value in pairs:
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in keys():
            inside = flat(value, f"{name}.")
        elif name not in _sections():
            inside = {name: value}
        elif value is None:
            continue
        else:
            inside = {f"{name}.{TAGS[name]}" if name in TAGS else name: value}
        if twice := found.keys() & inside.keys():
            raise UserError(f"--{min(twice)}: is given twice; give it once")
        found |= inside
    return found


def _tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """{"search.steps": 5} -> {"search": {"steps": 5}}. Raises UserError for an unknown key."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        if key not in keys():
            raise UserError(_no_such_key(key))
        *path, last = key.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The keys of a flat layer over those of the layers below it."""
    if any(
        key in above and below.get(key) not in (None, above[key])
        for key in ("task.type", "task.path")
    ):
        below = {key: value for key, value in below.items() if key not in OF_PLACE}
    return below | above


class Settled(NamedTuple):
    """Settings, and the keys of lower layers that were left out."""

    config: RunConfig
    dropped: list[str]


def settled(
    lower: Iterable[Mapping[str, Any]], last: Mapping[str, Any] = MappingProxyType({})
) -> Settled:
    """The run by these layers, lowest first; in a study, the run outside its cells.

    What only some cells of a study have waits in study.others. Raises UserError, one line, for a
    key that no choice has, a key of the last layer that the chosen class lacks, and a value that
    its key does not allow."""
    below: dict[str, Any] = {}
    asked = set[str]()
    for layer in map(flat, lower):
        below = merged(below, layer)
        asked |= {key for key, value in layer.items() if value is not None}
    command = flat(last)
    whole = merged(below, command)
    axes = whole.get("study.axes")
    if isinstance(axes, Mapping):  # another key may need the first value of an axis
        for axis, values in axes.items():
            if axis in keys() and isinstance(values, list | dict) and values:
                whole.setdefault(axis, next(iter(values)))
    chosen = _chosen(whole)
    read = _fields(*chosen.values())
    fit = {key: value for key, value in whole.items() if key in read or key not in keys()}
    others = {key: value for key, value in whole.items() if key not in fit and value is not None}
    dropped = asked - fit.keys()
    if axes:
        fit["study.others"] = fit.get("study.others", {}) | others
        dropped -= others.keys()
    elif refused := [key for key in others if key in command]:
        raise UserError(_no_such_key(refused[0], chosen))
    sections = {"method", *(key.partition(".")[0] for key in fit)}
    tags = {
        choice: value for choice, value in DEFAULTS.items() if choice.partition(".")[0] in sections
    }
    try:
        return Settled(METHODS[chosen["method"]].model_validate(_tree(tags | fit)), sorted(dropped))
    except ValidationError as error:
        beside = " (a study has it outside its cells, too)" if axes else ""
        raise UserError(f"{_one_line(error)}{beside}") from error


def _chosen(values: Mapping[str, Any]) -> dict[str, str]:
    """The value of each choice; a class in a file of the user's has one name for all."""
    found = {choice: str(values.get(choice, default)) for choice, default in DEFAULTS.items()}
    for choice, value in found.items():
        if is_own(value) and OWN_CLASS in CHOICES[choice]:
            found[choice] = OWN_CLASS
        elif value not in CHOICES[choice]:
            raise UserError(
                f"--{choice}: {value!r:.80} is not allowed; allowed: {', '.join(CHOICES[choice])}"
            )
    return found


def settings(values: Mapping[str, Any]) -> RunConfig:
    """The run by these keys (dotted key -> value) and the defaults. Raises UserError."""
    return settled([], values).config


def sources_of(values: Mapping[str, Any]) -> Sources:
    """The sources by these keys (dotted key -> value) and the defaults. Raises UserError."""
    tags = {"task.type": DEFAULTS["task.type"]}
    try:
        return Sources.model_validate(_tree(tags | dict(values)))
    except ValidationError as error:
        raise UserError(_one_line(error)) from error


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with some keys changed (dotted key -> value). A choice among them drops the keys
    that it lacks.

    Raises UserError for an unknown key or a value that is not allowed."""
    return settled([given(config)], values).config


def given(config: RunConfig) -> dict[str, Any]:
    """The tree of the keys that were given, without defaults."""
    return config.model_dump(exclude_unset=True)


def _one_line(error: ValidationError) -> str:
    """The first mistake in one line."""
    first = error.errors(include_url=False)[0]
    place = list(map(str, first["loc"]))
    if len(place) > 1 and place[0] in TAGS:  # pydantic also names the class of a union
        del place[1]
    around = [".".join(place[:end]) for end in range(len(place), 0, -1)]
    key = next((one for one in around if one in keys()), around[0] if around else "")
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return _no_such_key(key)
    if first["type"] == "value_error":  # of a section as a whole, the words begin with its key
        return f"--{key}{': ' if key in keys() else '.' if key else ''}{said}"
    if first["type"] == "missing":
        return f"--{key}: needs a value"
    fields = [one.field for one in keys().get(key, ())][:1]
    allowed = "".join(f"; allowed: {takes(field.annotation, field.metadata)}" for field in fields)
    return f"--{key}: {first['input']!r:.80} is not allowed ({said}){allowed}"


def _no_such_key(key: str, chosen: Mapping[str, str] = MappingProxyType(DEFAULTS)) -> str:
    """Why a key is refused: its name has changed, the choices that have it, or the nearest
    names."""
    if key in FORMER:
        return f"--{key}: is now --{FORMER[key]}"
    for choice, now in chosen.items():
        having = [one.value for one in keys().get(key, ()) if one.choice == choice]
        if having and now not in having:
            return (
                f"--{key}: there is no such key with {choice} {now}; it belongs to {choice} "
                f"{', '.join(having)}"
            )
    same = [known for known in keys() if known.rpartition(".")[2] == key.rpartition(".")[2]]
    near = [
        one for known in (same, keys()) for one in difflib.get_close_matches(key, known, cutoff=0)
    ]
    told = " or ".join(f"--{one}" for one in list(dict.fromkeys(near))[:3])
    return f"--{key}: there is no such key; did you mean {told}?"


def marks(
    section: BaseModel, prefix: str = "", above: Mark | None = None
) -> dict[str, Mark | None]:
    """Every key of these settings, with its mark or that of its section."""
    found: dict[str, Mark | None] = {}
    for name, field in type(section).model_fields.items():
        key = f"{prefix}{field.alias or name}"
        value = getattr(section, name)
        mark = next((one for one in field.metadata if isinstance(one, Mark)), above)
        found |= marks(value, f"{key}.", mark) if isinstance(value, BaseModel) else {key: mark}
    return found
