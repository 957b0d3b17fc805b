"""The keys of a configuration: their types and ranges, words for what each takes, and messages about wrong ones."""

import dataclasses
import difflib
import re
from functools import reduce
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from configs.errors import UserError
from configs.ranges import Range
from configs.requests import ScoreKind
from configs.schema import RunConfig, Stage

# (key, value) -> why a value that a reader of Betty's documentation would expect is not offered.
REFUSED = {
    ("hypergradient.type", "reinforce"): "Betty 0.2.1 leaves it unfinished: it fails when called and computes nothing",
    ("strategy", "zero"): "Betty's ZeRO splits the optimiser's state, which for LoRA weights is a few MB",
    ("strategy", "fsdp"): "Betty's FSDP splits the parameters, which the gates and finite differences need whole",
}

# What the command line takes besides --config and the settings of a run: its type, and the text of --help.
SWITCHES: dict[str, tuple[Any, str]] = {
    "stage": (Stage, "all, or one of: search (ends with ranks.json), retrain, report."),
    "overwrite": (
        bool,
        "Replace what the asked stages wrote before in this run's folder (search: the retraining, too) once all of it "
        "is made anew beside it; given again after a stop, it goes on.",
    ),
    "show": (str, "Print the result and ranks of a run folder; runs nothing."),
    "workspace": (str, "Save a wandb view for the project of this run folder; runs nothing."),
    "score": (ScoreKind, "Score files with the official metrics (--hyp, --ref); runs nothing."),
    "hyp": (str, "With --score: the system's output."),
    "ref": (str, "With --score: the references (webnlg: also a folder)."),
    "json": (str, "With --score: also write the values to this file."),
    "metrics": (list[str], "With --score: only these, as [BLEU,NIST]."),
}


def known_keys(schema: Any = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Dotted name of every field -> its type, which may have a range."""
    keys: dict[str, Any] = {}
    for name, kind in get_type_hints(schema, include_extras=True).items():
        keys |= known_keys(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else {prefix + name: kind}
    return keys


def split_range(kind: Any) -> tuple[Any, Range | None]:
    """A field's type without its range, and the range if it has one."""
    return get_args(kind) if get_origin(kind) is Annotated else (kind, None)


def allowed() -> dict[str, str]:
    """Dotted name of every key of the command line -> words for what it takes."""
    kinds = {"config": str} | {name: kind for name, (kind, _) in SWITCHES.items()} | known_keys()
    return {key: words(kind) for key, kind in kinds.items()}


def words(kind: Any) -> str:
    """What a field's type allows besides its range, in a user's words."""
    kind, _ = split_range(kind)
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if kind in plain:
        return plain[kind]
    if get_origin(kind) is Literal:
        return ", ".join(str(value) for value in get_args(kind))
    if get_origin(kind) is list:
        items = {str: "names, as [query,value]", int: "whole numbers, as [1,2]"}
        return f"a list of {items.get(get_args(kind)[0], 'values, as [0.1,0.2]')}"
    if get_origin(kind) is dict:
        return "keys with values"
    return ", ".join(words(part) for part in get_args(kind))


def check_values(config: RunConfig) -> None:
    """Raises UserError for the first value that is outside its key's range, or null where its key does not take null.

    jsonargparse refuses all other values of a wrong type.
    """
    for key, annotation in known_keys().items():
        (kind, limits), value = split_range(annotation), reduce(getattr, key.split("."), config)
        if value is None and type(None) not in get_args(kind):
            raise UserError(f"--{key}: null is not allowed; allowed: {words(kind)}")
        if limits and not limits.holds(value):
            raise UserError(f"--{key}: {value!r} is not allowed; allowed: {limits.words}")


def unknown_key(key: str) -> str:
    """The message about an unknown key, with the nearest known one."""
    names = allowed()
    # Leaving out the section, or giving a wrong one, is as common as misspelling a word.
    same_word = [name for name in names if name.split(".")[-1] == key.split(".")[-1]]
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = (same_word or close or [""])[0]
    return f"unknown key {key!r}" + (f"; did you mean {hint!r}?" if hint else "; --help lists the keys")


def one_line(message: str) -> str:
    """jsonargparse's message as one line: the key, what was given, what is allowed, the nearest valid name."""
    unknown = (
        re.search(r"unrecognized arguments: --([^\s=]+)", message, re.I)
        or re.search(r"Group '(?P<group>[^']+)' does not accept option '([^']+)'", message)
        or re.search(r"Option '([^']+)' is not accepted", message)
    )
    if unknown:
        return unknown_key(".".join(unknown.groups()))
    wrong = re.search(r'Parser key "([^"]+)"', message)
    given = re.search(r"Given value: (.*)", message, re.S) or re.search(r"Got value: (.*)", message, re.S)
    if wrong and given and wrong[1] in allowed():
        key, value = wrong[1], given[1].strip()
        reason = f" ({REFUSED[key, value]})" if (key, value) in REFUSED else ""
        return f"--{key}: {value!r} is not allowed{reason}; allowed: {allowed()[key]}"
    return " ".join(message.split())
