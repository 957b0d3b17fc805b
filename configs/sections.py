"""Whole sections on the command line, as a file (`--lora mine.yaml`) or as keys in braces (`--lora "{r: 6}"`)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.files import check_keys
from autolora.configs.keys import as_written, known_keys, shortened
from autolora.configs.places import from_home
from autolora.configs.yaml_text import parse_yaml, read_yaml, to_text


def with_sections_read(argv: Sequence[str]) -> list[str]:
    """The words of a command line, in which each file of a section is replaced by its keys.

    jsonargparse reads such files and keys in braces, too, but it keeps the last of two equal keys, and does not say
    which file is missing or wrong. Raises UserError for a file that does not exist, and for keys that `--config` would
    refuse.
    """
    words: list[str] = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if words and not word.startswith("--") and _section(words[-1]):
            words.append(_keys_of(words[-1].removeprefix("--"), word))
        elif equals and (section := _section(flag)):
            words.append(f"{flag}={_keys_of(section, value)}")
        else:
            words.append(word)
    return words


def _section(flag: str) -> str:
    """The section that an option names; "" if it names none."""
    name = flag.removeprefix("--")
    return name if name != flag and name in _sections() else ""


@cache
def _sections() -> Mapping[str, str]:
    """Name of every section -> its first key."""
    return {section: key for key in reversed(list(known_keys())) for section in _above(key)}


def _above(key: str) -> Iterator[str]:
    """The sections around a key: study and study.ray for study.ray.retries."""
    return (key[: dot.start()] for dot in re.finditer(r"[.]", key))


def _keys_of(section: str, value: str) -> str:
    """The keys of a section, as YAML text; `value`: the word behind the option."""
    flag = f"--{section}"
    if value.lstrip().startswith("{"):
        place, content = flag, parse_yaml(value, flag)
    else:
        place = from_home(value)
        try:
            exists = Path(place).is_file()
        except (OSError, ValueError):  # the name is too long for the file system, or has a character of number 0
            exists = False
        if not exists:
            raise UserError(
                f"{flag}: no file {shortened(value)!r}; {flag} takes a YAML file with keys of its section; to set one "
                f"key, give it by its name, such as --{_sections()[section]}"
            )
        content = read_yaml(Path(place))
    if not isinstance(content, dict):
        raise UserError(f"{place}: needs keys with values; holds {as_written(content)}")
    tree: dict[str, Any] = content
    for name in reversed(section.split(".")):
        tree = {name: tree}
    check_keys(place, tree)
    return to_text(content)
