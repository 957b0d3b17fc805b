"""jsonargparse's complaints about a command line or a file, as one line for the user."""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise, takewhile
from typing import Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from autolora.configs.errors import UserError
from autolora.configs.keys import REFUSED, SWITCHES, UNQUOTED, allowed, known_keys, shortened, split_range
from autolora.configs.ranges import FilePath
from autolora.configs.unknown import unknown_key
from autolora.configs.yaml_text import parse_yaml


def one_line(message: str, arguments: Sequence[str] = ()) -> str:
    """jsonargparse's message as one line: the key, what was given, what is allowed, the nearest valid name.

    `arguments`: the words of the command line that it is about."""
    unknown = (
        re.search(r"unrecognized arguments: --([^\s=]+)", message, re.I)
        or re.search(r"Group '(?P<group>[^']+)' does not accept option '([^']+)'", message)
        or re.search(r"Option '([^']+)' is not accepted", message)
    )
    if unknown:
        return unknown_key(".".join(unknown.groups()))
    if word := re.search(r"unrecognized arguments: (.+?)(?= --|$)", message, re.I | re.S):
        meant = (
            f"did you mean --config {shlex.quote(word[1])}?"
            if word[1].endswith((".yaml", ".yml"))
            else "allowed: --KEY VALUE"
        )
        return f"{shortened(word[1])!r} belongs to no option; {meant}"
    if valueless := re.search(r"argument --([\w.]+): expected (one|at least one) argument", message):
        return _without_a_value(valueless[1])
    if switch := re.search(r"argument (?:-\w/)?(--[\w.]+): ignored explicit argument", message):
        return f"{switch[1]}: takes no value; allowed: {switch[1]} alone"
    # Of a section that was given as a whole, the message first names the section, then the key.
    *_, wrong = re.findall(r'Parser key "([^"]+)"', message) or [""]
    # Where several types are allowed, jsonargparse's message repeats the value after each type.
    given = re.search(r".*Given value: (.*)", message, re.S) or re.search(r"Got value: (.*)", message, re.S)
    if given and wrong in allowed():
        key, value = wrong, _as_typed(wrong, given[1].strip(), arguments)
        reason = f" ({REFUSED[key, value]})" if (key, value) in REFUSED else _of_unquoted(value, allowed()[key])
        way = _way(key, value, arguments)
        return f"--{key}: {shortened(value)!r} is not allowed{reason}; allowed: {allowed()[key]}{way}"
    return shortened(" ".join(message.split()))


def _as_typed(key: str, value: str, arguments: Sequence[str]) -> str:
    """The refused value as it stands on the command line: jsonargparse's message has 1000.0 for 1e3."""
    given = [word for option, word in pairwise(arguments) if option == f"--{key}"]
    given += [word.partition("=")[2] for word in arguments if word.startswith(f"--{key}=")]
    for word in given:
        with suppress(ValueError):
            if repr(float(word)) == value:
                return word
    return value


def _way(key: str, value: str, arguments: Sequence[str]) -> str:
    """How to reach what the user wanted by a value that is refused; an empty text if that is not known."""
    if key == "device" and (numbered := re.fullmatch(r"(?:cuda:)?(\d+)", value)):
        return f"; CUDA_VISIBLE_DEVICES={numbered[1]} before the command chooses the GPU"
    meant = _meant_as_list(key, [value, *_behind(key, value, arguments)])
    return f"; did you mean --{key} {meant}?" if meant else ""


def _behind(key: str, value: str, arguments: Sequence[str]) -> Iterator[str]:
    """The words of the command line that follow `--key value`, up to the next option."""
    behind = [at + 2 for at, pair in enumerate(pairwise(arguments)) if pair == (f"--{key}", value)]
    return takewhile(lambda word: not word.startswith("--"), arguments[behind[-1] :] if behind else ())


def _meant_as_list(key: str, given: Sequence[str]) -> str:
    """The given words as the list that the key takes, in the quotes that a shell needs; "" if they make none."""
    switch, _ = SWITCHES.get(key, (str, ""))
    kind, limits = split_range(known_keys().get(key, switch))
    spelt = given[0].lower().replace("_", "-")
    choices = [part for part in get_args(kind) if get_origin(part) is Literal and get_origin(kind) is not list]
    if any(spelt in get_args(choice) for choice in choices):
        return spelt  # all_linear, which as a list would be a module of that name
    text = f"[{','.join(part.strip() for word in given for part in word.split(',') if part.strip())}]"
    try:
        read = TypeAdapter(kind).validate_python(parse_yaml(text, key), strict=True)
    except (UserError, ValidationError):
        return ""
    return f'"{text}"' if '"' not in text and (limits is None or limits.holds(read)) else ""


def _of_unquoted(value: str, taken: str) -> str:
    """Why a list of names was refused, if YAML read one of its names as another type; else an empty text."""
    read = re.fullmatch(r"\[.*?\b(True|False|None|[\d.]+)\b.*\]", value)
    if read is None or "names" not in taken:
        return ""
    why = UNQUOTED.format(read[1], "'[\"no\"]'")
    return f" ({why})"


def _without_a_value(key: str) -> str:
    """The message about an option without a value: it ends the command line, or another option follows it."""
    files = {"config", *(name for name, (kind, _) in SWITCHES.items() if kind is FilePath)}
    if any(name.startswith(f"{key}.") for name in known_keys()):
        taken = "a YAML file with keys of its section"
    else:
        taken = "a file or folder" if key in files else allowed().get(key, "text")
    negative = f"; one that begins with '-' is written --{key}=-1" if "number" in taken else ""
    return f"--{key}: needs a value; allowed: {taken}{negative}"
