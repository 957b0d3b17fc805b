"""Layers of settings: defaults < files < command line < a study's cell.

A layer that chooses another method, type or rule drops, from the layers below it, the keys that the new choice lacks.
A key of the last layer that the choice lacks is refused.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from autolora.configs.errors import UserError
from autolora.configs.schema import METHODS, Autolora, Run, RunConfig
from autolora.configs.section import Mark
from autolora.configs.words import takes

TAGS = ("method", "type", "rule")
"""The keys by which the classes of a union are told apart."""
OF_PLACE = ("name", "revision", "configuration", "data_files", "train_split", "evaluation_split", "validation_path",
            "test_path", "text_columns", "label_column")  # fmt: skip
"""Keys of `task` that belong to its path: a layer that gives another path or type drops them from those below it."""
OF_THRESHOLD = ("search.patience", "search.check_every")
"""Keys that belong to answer.rule threshold, though they stand in the section of the search that they end."""
OWN_CLASS = "FILE.py:CLASS"


class _Whole(BaseModel):
    """A run as the only key of a model, so that a run is a union like any other section."""

    run: Run = Autolora()


class Key(NamedTuple):
    """One key of one choice: the choice, such as "task.type text" ("" if all have it), its field and its class."""

    choice: str
    field: FieldInfo
    owner: type[BaseModel]


def name_of(key: str, field: FieldInfo) -> str:
    """How users write a field: its alias if it is a reserved word of Python."""
    return field.alias or key


def classes_of(field: FieldInfo) -> list[type[BaseModel]]:
    """The classes that a key may hold: none for a plain key, one for a section, several for a union."""
    found, queue = [], [field.annotation]
    while queue:
        one = queue.pop(0)
        if isinstance(one, type) and issubclass(one, BaseModel):
            found.append(one)
        queue += [inner for inner in get_args(one) if not isinstance(inner, str | int | float | bool)]
    return list(dict.fromkeys(found))


@cache
def _classes(kind: type[BaseModel]) -> Mapping[str, list[type[BaseModel]]]:
    return {key: classes_of(field) for key, field in fields_of(kind).items()}


def tag_of(classes: Sequence[type[BaseModel]]) -> str:
    """The key by which these classes are told apart; "" for one class."""
    return next(tag for tag in TAGS if tag in classes[0].model_fields) if len(classes) > 1 else ""


def values_of(kind: type[BaseModel], tag: str) -> tuple[str, ...]:
    """The values of the tag that choose this class."""
    return get_args(kind.model_fields[tag].annotation) or (OWN_CLASS,)


@cache
def fields_of(kind: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The keys of a class, as users write them."""
    return {name_of(key, field): field for key, field in kind.model_fields.items()}


@cache
def keys() -> Mapping[str, list[Key]]:
    """Every key of every choice, by its dotted name."""
    found: dict[str, list[Key]] = {}
    for key, one in _walk(_Whole, "", ""):
        found.setdefault(key, []).append(one)
    return found


def _walk(kind: type[BaseModel], prefix: str, choice: str) -> Iterator[tuple[str, Key]]:
    for key, field in fields_of(kind).items():
        classes = classes_of(field)
        below = "" if kind is _Whole else f"{prefix}{key}."
        tag = tag_of(classes) if classes else ""
        for one in classes:
            yield from _walk(one, below, f"{below}{tag} {'|'.join(values_of(one, tag))}" if tag else choice)
        if not classes:
            yield prefix + key, Key(choice, field, kind)


def pairs(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of all keys in a tree of sections, in which dotted names may stand, too. A mapping that is
    a key's value stays whole, an empty section is nothing, and a word in place of one chooses its class (task: text).
    """
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if not _is_section(name):
            yield name, value
        elif isinstance(value, Mapping):
            yield from pairs(value, f"{name}.")
        elif name in _tags() and value is not None:
            yield f"{name}.{_tags()[name]}", value
        elif value is not None:
            raise UserError(f"--{name}: {value!r:.80} is not allowed; allowed: keys with values")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of all keys in a tree of sections."""
    return dict(pairs(tree, prefix))


def tree_of(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """{"search.steps": 5} -> {"search": {"steps": 5}}. Raises UserError for a key that is given twice."""
    given = pairs(values) if isinstance(values, Mapping) else (one for pair in values for one in pairs(dict([pair])))
    found = list(given)
    names = [key for key, _ in found]
    if twice := [key for key in names if names.count(key) > 1]:
        raise UserError(f"--{twice[0]}: is given twice; give it once")
    parts = ((key, key[:at]) for key in names for at, letter in enumerate(key) if letter == ".")
    if below := [key for key, above in parts if above in keys()]:  # study.axes.seed would replace all axes
        raise UserError(_no_such_key(below[0], {}))
    tree: dict[str, Any] = {}
    for key, value in found:
        *path, last = key.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def takes_one_word(key: str) -> bool:
    """Whether a key takes neither lists nor keys with values, so that {runs}/{seed} is a text."""
    kinds = [str(one.field.annotation) for one in keys().get(key, ())]
    return bool(kinds) and not any("list[" in kind or "dict[" in kind for kind in kinds)


@cache
def _tags() -> dict[str, str]:
    """Dotted name of each section that is a union -> its tag."""
    found = {}
    for kind in classes_of(_Whole.model_fields["run"]):
        for key, field in fields_of(kind).items():
            if tag := tag_of(classes) if (classes := classes_of(field)) else "":
                found[key] = tag
    return found


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`upper` over `lower`, section by section."""
    result = dict(lower)
    for key, value in upper.items():
        name = f"{prefix}{key}"
        nested = isinstance(value, Mapping) and _is_section(name)
        result[key] = merged(result.get(key) or {}, value, f"{name}.") if nested else value
    other = [key for key in ("type", "path") if key in upper and lower.get(key) not in (None, upper[key])]
    if prefix == "task." and other:
        result = {key: value for key, value in result.items() if key in upper or key not in OF_PLACE}
    return result


@cache
def _is_section(key: str) -> bool:
    return any(known.startswith(f"{key}.") for known in keys())


def fitted(kind: type[BaseModel], tree: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree without the keys that only other choices have, and those keys, by their dotted names."""
    fields, result, others = fields_of(kind), dict[str, Any](), dict[str, Any]()
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in fields:
            inside = flat({name: value})
            known = {one: inside[one] for one in inside if one in keys()}
            others |= known
            if len(known) < len(inside):  # a key of no choice, which validation refuses
                result[key] = value
            continue
        classes = _classes(kind)[key]
        if classes and isinstance(value, Mapping) and (model := _chosen(classes, value, fields[key].default)):
            value, dropped = fitted(model, value, "" if kind is _Whole else f"{name}.")
            others |= dropped
            if (tag := tag_of(classes)) and tag not in value:
                value[tag] = getattr(fields[key].default, tag)
        result[key] = value
    return result, others


def _chosen(classes: Sequence[type[BaseModel]], value: Mapping[str, Any], default: Any) -> type[BaseModel] | None:
    """The class that a section's tag chooses; None for a tag that no class has."""
    if not (tag := tag_of(classes)):
        return classes[0]
    if tag not in value:
        return type(default)
    named = [one for one in classes if value[tag] in values_of(one, tag)]
    own = [one for one in classes if OWN_CLASS in values_of(one, tag) and ".py:" in str(value[tag])]
    return next(iter(named or own), None)


class Settled(NamedTuple):
    """Settings, and the keys of lower layers that were left out."""

    config: RunConfig
    dropped: list[str]


def settled(lower: Iterable[Mapping[str, Any]], last: Mapping[str, Any] = MappingProxyType({})) -> Settled:
    """The run by these layers, lowest first, each a tree of sections; in a study, the run outside its cells.

    What only some cells of a study have waits in study.others. Raises UserError, one line, for a key that no choice
    has, a key of the last layer that the chosen class lacks, and a value that its key does not allow."""
    below: dict[str, Any] = {}
    asked = set[str]()
    for layer in lower:
        below = merged(below, layer)
        asked |= {key for key, value in flat(layer).items() if value is not None}
    whole = merged(below, last)
    # Outside the cells, a study has the first value of an axis that no layer gives: another key may need it.
    axes = (whole.get("study") or {}).get("axes") or {}
    given_axes = axes.items() if isinstance(axes, Mapping) else ()
    first = {a: next(iter(v)) for a, v in given_axes if a in keys() and isinstance(v, list | Mapping) and v}
    whole = merged(tree_of({axis: value for axis, value in first.items() if axis not in flat(whole)}), whole)
    fit, others = fitted(_Whole, {"run": whole})
    tree, now = fit["run"], flat(fit["run"])
    if now.get("answer.rule") != "threshold":
        for key in [key for key in OF_THRESHOLD if now.get(key) is not None]:
            del now[key]
            others[key] = tree["search"].pop(key.removeprefix("search."))
    dropped = sorted(asked - now.keys())
    study = tree.get("study")
    if axes and isinstance(study, Mapping):
        tree["study"] = {**study, "others": {**study.get("others", {}), **others}}
        dropped = [key for key in dropped if key not in others]
    elif refused := [key for key in others if key in flat(last)]:
        raise UserError(_no_such_key(refused[0], tree))
    try:
        return Settled(_Whole.model_validate(fit).run, dropped)
    except ValidationError as error:
        beside = " (a study has it outside its cells, too)" if axes else ""
        raise UserError(f"{one_line(error, tree)}{beside}") from error


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with some keys changed (dotted key -> value). A choice among them drops the keys that it lacks.

    Raises UserError for an unknown key or a value that is not allowed."""
    return settled([given(config)], tree_of(values)).config


def validated(kind: Any, section: str, value: Any) -> Any:
    """Settings of a script: an object of `kind`, made of `value`, a mapping of keys or such an object.

    Raises UserError, one line, for a value that a key does not allow."""
    if section in _tags() and isinstance(value, Mapping):  # a choice, or its default
        return getattr(settings({section: value}), section)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([part for part in (section, *map(str, first["loc"][:1])) if part])
        if first["type"] == "extra_forbidden":
            raise UserError(_no_such_key(place, {})) from error
        said = first["msg"].removeprefix("Value error, ")
        if not place:
            raise UserError(said) from error
        option = "" if section else "--"  # a script's sections are no options
        raise UserError(f"{option}{place}: {said}; given: {first['input']!r:.80}") from error


def given(config: RunConfig) -> dict[str, Any]:
    """The tree of the keys that were given, without defaults."""
    tree = {"method": config.method, **config.model_dump(exclude_unset=True)}
    for section, tag in _tags().items():
        if section in tree:
            tree[section] = {tag: getattr(getattr(config, section), tag), **tree[section]}
    return tree


def one_line(error: ValidationError, tree: Mapping[str, Any]) -> str:
    """The first mistake in one line; an unknown key before all others, as a misspelt key also makes one missing."""
    found = error.errors(include_url=False)
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    parts, field = _walked(first["loc"])
    path = ".".join(parts)
    if first["type"] == "extra_forbidden":
        inside = first["input"]
        while isinstance(inside, Mapping) and inside:  # a section that is none: name a key in it
            (key, inside), *_ = inside.items()
            path = f"{path}.{key}"
        return _no_such_key(path, tree)
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"--{path}{': ' if path in keys() else '.' if path else ''}{said}"
    if first["type"].startswith("union_tag"):
        tag = _tags().get(path, "method")
        expected = first.get("ctx", {}).get("expected_tags", "")
        value = first["input"].get(tag) if isinstance(first["input"], Mapping) else first["input"]
        return f"--{f'{path}.' if path else ''}{tag}: {value!r:.80} is not allowed; allowed: {expected}"
    if first["type"] == "missing":
        return f"--{path}: needs a value"
    allowed = f"; allowed: {takes(field.annotation, field.metadata)}" if field else ""
    return f"--{path}: {first['input']!r:.80} is not allowed ({said}){allowed}"


def _walked(places: Sequence[Any]) -> tuple[list[str], FieldInfo | None]:
    """The dotted parts of the place of a mistake, in which pydantic also names the class of a union, and the field of
    the last one; None for a key that no class has."""
    classes: Sequence[type[BaseModel]] = [_Whole]
    parts: list[str] = []
    field = None
    for place in places:
        if len(classes) > 1:
            classes = [one for one in classes if str(place) in values_of(one, tag_of(classes))]
        elif classes:
            parts.append(str(place))
            field = fields_of(classes[0]).get(str(place))
            classes = classes_of(field) if field else []
    return parts[1:], field


def _no_such_key(key: str, tree: Mapping[str, Any]) -> str:
    """Why a key is refused: the choices that have it, or the nearest names."""
    method, section = str(tree.get("method", "autolora")), key.partition(".")[0]
    owners = [name for name, kind in METHODS.items() if section in fields_of(kind)]
    if key in keys() and "." in key and method in METHODS and method not in owners:
        return f"--{key}: there is no such key with method {method}; it belongs to method {', '.join(owners)}"
    choices = sorted({one.choice for one in keys().get(key, ())})
    if key in OF_THRESHOLD:
        choices = ["answer.rule threshold"]
    if choices and choices != [""]:
        tags = [one.partition(" ")[0] for one in choices]
        now = ", ".join(f"{tag} {flat(tree).get(tag)}" for tag in dict.fromkeys(tags) if flat(tree).get(tag))
        readers: dict[str, list[str]] = {}
        for tag, _, values in (one.partition(" ") for one in choices):
            readers.setdefault(tag, []).extend(values.split("|"))
        told = " and ".join(f"{tag} {', '.join(values)}" for tag, values in readers.items())
        return f"--{key}: there is no such key with {now or 'these settings'}; it belongs to {told}"
    elsewhere = [known for known in keys() if known.rpartition(".")[2] == key.rpartition(".")[2]]
    near = difflib.get_close_matches(key, elsewhere, n=3, cutoff=0) + difflib.get_close_matches(key, keys(), n=3)
    near = list(dict.fromkeys(near))
    hint = f"did you mean {' or '.join(f'--{name}' for name in near[:3])}?" if near else "--help lists the keys"
    return f"--{key}: there is no such key; {hint}"


def marked(section: BaseModel, marks: Collection[Mark], prefix: str = "") -> Iterator[str]:
    """The keys, and whole sections, of these settings that have one of these marks."""
    for key, field in fields_of(type(section)).items():
        value = getattr(section, "from_run" if key == "from" else key)
        if any(mark in field.metadata for mark in marks):
            yield f"{prefix}{key}"
        elif isinstance(value, BaseModel):
            yield from marked(value, marks, f"{prefix}{key}.")


def settings(values: Mapping[str, Any]) -> RunConfig:
    """The run by these keys (dotted key -> value) and the defaults. Raises UserError."""
    return settled([], tree_of(values)).config
