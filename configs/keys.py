"""Names of all keys, what each takes in a user's words, and jsonargparse's complaints as one line."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from typing import Any, Literal

from configs.rules import REFUSED
from configs.schema import RunConfig, Stage

ScoreKind = Literal["e2e", "webnlg", "ner"]


def known_keys(schema: type = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Dotted name of every field -> its type."""
    keys: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(kind):
            keys |= known_keys(typing.cast(type, kind), f"{prefix}{name}.")
        else:
            keys[prefix + name] = kind
    return keys


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
    given = re.search(r"(?:Got value|Given value): (.*)", message, re.S)
    if wrong and given and wrong[1] in allowed():
        key, value = wrong[1], given[1].strip()
        reason = f" ({REFUSED[key, value]})" if (key, value) in REFUSED else ""
        return f"--{key}: {value!r} is not allowed{reason}; allowed: {allowed()[key]}"
    return re.sub(r"\s*\n\s*", " ", message.strip())


def unknown_key(key: str) -> str:
    names = allowed()
    # The right word without its section, or in the wrong one, is as common as a slip of the pen.
    same_word = [name for name in names if name.split(".")[-1] == key.split(".")[-1]]
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = (same_word or close or [""])[0]
    return f"unknown key {key!r}" + (f"; did you mean {hint!r}?" if hint else "; --help lists the keys")


def allowed() -> dict[str, str]:
    """Dotted name of every key -> words for what it takes."""
    switches = {
        "config": "a YAML file",
        "stage": words(Stage),
        "overwrite": "no value",
        "show": "a run folder",
        "workspace": "a run folder",
        "score": words(ScoreKind),
        "hyp": "a file",
        "ref": "a file or folder",
        "json": "a file",
        "metrics": "a list of names, as [BLEU,NIST]",
    }
    return switches | {key: words(kind) for key, kind in known_keys().items()}


def words(kind: Any) -> str:
    """What a field's type allows, in a user's words."""
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if kind in plain:
        return plain[kind]
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(str(value) for value in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        items = {str: "names, as [query,value]", int: "whole numbers, as [1,2]"}
        return f"a list of {items.get(typing.get_args(kind)[0], 'values, as [0.1,0.2]')}"
    if typing.get_origin(kind) is dict:
        return "keys with values"
    return ", ".join(words(part) for part in typing.get_args(kind))
