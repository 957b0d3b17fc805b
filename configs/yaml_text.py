"""Reads the values in a YAML file, and refuses text that YAML would silently misread, such as a key given twice.

Writes values so that they are read back as they were."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from autolora.configs.errors import UserError
from autolora.configs.ranges import DEEPEST

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# A configuration has some hundred values; aliases (*name) can stand for any number of them.
MOST_VALUES = 100_000


def read_yaml(path: Path) -> Any:
    """The values in a file, as `--config` reads them. Raises UserError as `parse_yaml`, which names the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise _unreadable(path, error) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, place: Path | str) -> Any:
    """The values in a text of YAML; `place`: the file or option that holds it, for errors.

    Raises UserError, naming the place and, if known, the line, when the text cannot be read as YAML, gives a key twice
    (YAML itself would keep the last one), nests too deeply, or holds too many values.
    """
    try:
        _refuse_deep(place, text)
        root = yaml.compose(text, Loader=_LOADER)
        if root is not None:
            _refuse_large(place, root, {})
            _refuse_twice(place, root)
        values = get_loader("yaml")(text)
    except (ValueError, yaml.YAMLError) as error:  # ValueError: a number of too many digits
        raise _unreadable(place, error) from error
    if isinstance(values, str) and isinstance(root, yaml.MappingNode):
        return {key.value: None for key, _ in root.value}  # jsonargparse reads keys alone, such as "lora:", as a text
    return values


def _unreadable(place: Path | str, error: Exception) -> UserError:
    return UserError(f"{place}: not readable as YAML ({' '.join(str(error).split())[:300]})")


def plain_values(path: Path) -> Any:
    """The values in a file, read without the checks for keys given twice and for too many values.

    Raises UserError for what nests too deeply; OSError, ValueError or YAMLError for what is not readable as YAML.
    """
    text = path.read_text(encoding="utf-8")
    _refuse_deep(path, text)
    return get_loader("yaml")(text)


def _refuse_deep(place: Path | str, text: str) -> None:
    """Raises UserError for text that nests deeper than DEEPEST, on which this program and others would fail."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = "" if event.start_mark is None else f", line {event.start_mark.line + 1}"
            raise UserError(f"{place}{line}: nested more than {DEEPEST} deep; allowed: keys with values")


def _refuse_large(place: Path | str, node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """Returns the number of values in `node`; the values behind an alias count each time that it is used.

    Raises UserError for too many values, and for a value that contains itself. `sizes`: id of each node seen so far ->
    its number of values, or None for a node that is still being counted because it contains this one.
    """
    known = sizes.get(id(node), 0)
    if known is None:
        raise UserError(f"{place}, line {node.start_mark.line + 1}: a value contains itself (by an alias, *name)")
    if known:
        return known
    sizes[id(node)] = None
    size = 1 + sum(_refuse_large(place, child, sizes) for child in _children(node))
    if size > MOST_VALUES:
        raise UserError(f"{place}, line {node.start_mark.line + 1}: holds more than {MOST_VALUES:,} values")
    sizes[id(node)] = size
    return size


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _refuse_twice(place: Path | str, root: yaml.Node) -> None:
    """Raises UserError for a key given twice.

    The two may be in the same section, in two sections of the same name, or one of them in its section and the other
    outside it under its full name, such as search.steps.
    """
    lines: dict[str, int] = {}
    for key, line in _keys(root, ""):
        if key in lines:
            raise UserError(
                f"{place}, line {line}: {key} is given a second time (first in line {lines[key]}); give it once"
            )
        lines[key] = line


def _keys(node: yaml.Node, prefix: str) -> Iterator[tuple[str, int]]:
    """The full name and the line of every key, a section before its keys."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = f"{prefix}{key.value}" if isinstance(key, yaml.ScalarNode) else f"{prefix}?"
        yield name, key.start_mark.line + 1
        yield from _keys(value, f"{name}.")


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that jsonargparse would read as something else: PyYAML writes the text 1e-3 without quotes, as
    its own reader takes it for a text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        stays = get_loader("yaml")(text) == text
    except (ValueError, yaml.YAMLError):
        stays = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if stays else "'")


_Dumper.add_representer(str, _represent_text)


def to_text(values: Any) -> str:
    """The values as YAML text, in their order; `read_yaml` reads them back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
