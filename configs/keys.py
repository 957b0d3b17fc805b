"""The keys of a configuration: their types and ranges in words, and messages about wrong values."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, reduce
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from autolora.configs.errors import UserError
from autolora.configs.hypergradients import BUILT_IN
from autolora.configs.ranges import FilePath, Range
from autolora.configs.requests import ScoreKind, Trainer
from autolora.configs.schema import RunConfig, Stage

# (key, value) -> why this program does not offer a value that Betty's documentation has.
REFUSED = {
    ("hypergradient.type", "reinforce"): "Betty 0.2.1 leaves it unfinished: it fails when called and computes nothing",
}

# A key that is a reserved word of Python -> the field that holds its value under another name.
SPELLED = {"answer.from": "answer.from_run"}

UNQUOTED = "YAML reads an unquoted no, yes, null or number as another type, here {}; quote it: {}"
"""Why a name was refused that YAML read as another type."""

TWO_NAMES = "are two names of one key; allowed: one of them"

MOST_HINTS = 3
MOST_SHOWN = 120

# What the command line takes besides --config and the settings of a run: each option's type and its text in --help.
SWITCHES: dict[str, tuple[Any, str]] = {
    "stage": (
        Stage,
        "all: search, retrain and report; search (ends with ranks.json), retrain or report: one of them alone; "
        "verdict: do the places of the ranks matter?",
    ),
    "overwrite": (
        bool,
        "Run the chosen stages anew; when all are done, replace their earlier results in this run's folder (search "
        "also replaces the retraining). Alone it means true. After an interruption, the same command resumes.",
    ),
    "show": (
        FilePath,
        "Print a run's result and ranks (if it is unfinished, its progress), or a study's table; runs nothing.",
    ),
    "for": (Trainer, "With --show: print the lines with which another trainer trains at the ranks of the run."),
    "workspace": (FilePath, "Save a wandb view for the project of this run folder; runs nothing."),
    "score": (ScoreKind, "Score files with the official metrics (--hyp, --ref); runs nothing."),
    "hyp": (FilePath, "With --score: the system's output."),
    "ref": (FilePath, "With --score: the references (webnlg: also a folder)."),
    "json": (FilePath, "With --score: also write the values to this file."),
    "metrics": (list[str], 'With --score: compute only these metrics, such as "[BLEU,NIST]".'),
}


@cache
def known_keys(schema: Any = RunConfig) -> Mapping[str, Any]:
    """Dotted name of every field -> its type, which may have a range."""
    return dict(_keys_of(schema, ""))


def _keys_of(schema: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, kind in get_type_hints(schema, include_extras=True).items():
        if dataclasses.is_dataclass(kind):
            yield from _keys_of(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def split_range(kind: Any) -> tuple[Any, Range | None]:
    """A field's type without its range, and the range if it has one."""
    return get_args(kind) if get_origin(kind) is Annotated else (kind, None)


def allowed() -> dict[str, str]:
    """Dotted name of every key of the command line -> words for what it takes."""
    kinds = {"config": str} | {name: kind for name, (kind, _) in SWITCHES.items()} | dict(known_keys())
    return {key: _type_or_range(kind) for key, kind in kinds.items()}


def _type_or_range(annotation: Any) -> str:
    """The type that a key takes, in words, and for numbers and lists of values also the range."""
    said = words(annotation)
    return takes(annotation) if "number" in said or said.startswith("a list of values") else said


def takes(annotation: Any) -> str:
    """The values that a key takes, in words: its type and its range, or the range alone if that names the type."""
    kind, limits = split_range(annotation)
    if limits is None:
        return words(kind)
    said = limits.words.removeprefix("null, or ")
    # A union such as float | None or list[str] | Literal["all-linear"]: the range's words already name null and
    # all-linear, so what stands before them is the type of the number or list alone.
    typed = next(part for part in (kind, *get_args(kind)) if get_origin(part) in (None, list, dict))
    if re.match(r"\d|from ", said) or (get_origin(typed) is list and not said.startswith("a list")):
        said = f"{words(typed)}: {said}"
    return f"{said}, or null" if type(None) in get_args(kind) and "null" not in said else said


# Lists and braces stand in double quotes: a shell would read [a,b] as a pattern of file names, and divide {a: b}.
_VALUES = 'values, such as "[0.1,0.2]"'
_DICTIONARIES: dict[Any, str] = {
    dict[str, Any]: 'names with values, such as "{rate: 0.1}"',
    dict[str, list[Any]]: 'keys with lists of values, such as "{seed: [0,1]}"',
    dict[str, dict[str, Any]]: 'names with keys and values, such as "{wide: {lora.k: 16}}"',
    dict[str, dict[str, dict[str, Any]]]: 'axes with values and their keys, such as "{method: {lora: {lora.r: 8}}}"',
}


def words(kind: Any) -> str:
    """The values that a field's type allows, in words for the user; its range is not included."""
    kind, _ = split_range(kind)
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if kind in plain:
        return plain[kind]
    if get_origin(kind) is Literal:
        return ", ".join(str(value) for value in get_args(kind))
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        if get_origin(item) is Literal:
            return f"a list of: {words(item)}"
        items = {
            str: 'names, such as "[a,b]"',
            int: 'whole numbers, such as "[1,2]"',
            list[str]: 'lists of names, such as "[[query]]"',
            dict[str, Any]: 'keys with values, such as "[{seed: 1}]"',
        }
        return f"a list of {items.get(item, _VALUES)}"
    if get_origin(kind) is dict:
        return _DICTIONARIES[kind]
    return ", ".join(words(part) for part in get_args(kind))


def check_values(config: RunConfig) -> None:
    """Raises UserError for the first value that is outside its key's range, or null where its key does not take null,
    and for an empty text.

    jsonargparse refuses all other values of a wrong type.
    """
    spelled = {field: key for key, field in SPELLED.items()}
    for field, annotation in known_keys().items():
        key = spelled.get(field, field)
        (kind, limits), value = split_range(annotation), reduce(getattr, field.split("."), config)
        if value is None and type(None) not in get_args(kind):
            raise UserError(f"--{key}: null is not allowed; allowed: {words(kind)}")
        if limits and not limits.holds(value):
            reason = f" ({REFUSED[key, value]})" if isinstance(value, str) and (key, value) in REFUSED else ""
            reason = reason or (_of_unquoted_keys(value) if key in ("study.axes", "study.variants") else "")
            meant = _meant(value) if key == "hypergradient.type" and not reason else ""
            raise UserError(f"--{key}: {as_written(value)} is not allowed{reason}; allowed: {limits.words}{meant}")
        if value == "":  # as from an unset shell variable; read as null, it would be ignored silently
            raise UserError(f"--{key}: '' is not allowed; allowed: {words(kind)}, but no empty text")


def _of_unquoted_keys(value: Any) -> str:
    """Why the value of an option with keys or names was refused, if YAML read one of them as another type; else ""."""
    inside = [key for named in value.values() if isinstance(named, Mapping) for key in named]
    other = [key for key in value if key is None or isinstance(key, bool)]
    other += [key for key in (*inside, *value) if not isinstance(key, str)]
    why = UNQUOTED.format(as_written(other[0]), """'{"no": ...}'""") if other else ""
    return f" ({why})" if why else ""


def _meant(value: Any) -> str:
    """A question for the approximation whose name a misspelt text resembles; "" if there is none."""
    near = difflib.get_close_matches(value, BUILT_IN, n=1, cutoff=0.7) if isinstance(value, str) else []
    return f"; did you mean {near[0]}?" if near else ""


def check_types(section: str, value: Any) -> None:
    """Checks a section that a script made in Python, where jsonargparse has not checked the types.

    Raises UserError for the first field whose value has a wrong type, or is not one of the words that its key takes.
    """
    kind = get_type_hints(RunConfig)[section]
    if not isinstance(value, kind):
        raise UserError(f"{section}: {type(value).__name__} is not allowed; allowed: {kind.__name__}")
    for name, found in vars(value).items():
        check_type(f"{section}.{name}", found)


def check_type(key: str, value: Any) -> None:
    """Raises UserError if a value made in Python has a type or word that its key does not take ("6" for a number)."""
    kind, _ = split_range(known_keys()[key])
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise UserError(f"--{key}: {shortened(repr(value))} is not allowed; allowed: {allowed()[key]}") from error


def refuse_huge(given: Iterable[tuple[str, Any]]) -> None:
    """Raises UserError for the first (key, value) that holds a whole number larger than any float.

    Python cannot turn it into a float, and jsonargparse's error does not name the key.
    """
    for key, value in given:
        kind, limits = split_range(known_keys().get(key, dict))
        if kind not in (str, str | None, list[str]) and re.search(r"\d{309}", str(value)):
            allowed_here = limits.words if limits else "numbers of fewer digits"
            raise UserError(f"--{key}: {shortened(str(value))} is not allowed; allowed: {allowed_here}")


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every key of a configuration in a tree of sections."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in known_keys():
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def as_written(value: Any) -> str:
    """A value of a YAML file for an error message: null, true and false as YAML has them, other values as Python."""
    return shortened({"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value)))


def shortened(text: str) -> str:
    """The text, shortened for an error message of one line: a long text loses its middle."""
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]}...{text[-MOST_SHOWN // 4 :]}"


def either(names: Sequence[str]) -> str:
    """The names as a choice: a, b or c."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
