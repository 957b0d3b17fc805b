"""Builds a checked configuration from keys and values; every mistake is a UserError of one line."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from autolora.configs.complaints import one_line
from autolora.configs.errors import UserError
from autolora.configs.keys import SPELLED, TWO_NAMES, flat, known_keys, refuse_huge, shortened, split_range
from autolora.configs.rules import check
from autolora.configs.schema import RunConfig
from autolora.configs.unknown import unknown_key


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with some keys changed (dotted key -> value), checked as if they came from the command line.

    Raises UserError for an unknown key or a value that is not allowed.
    """
    return checked(_read(values), None, config)


def from_tree(tree: Mapping[str, Any], values: Mapping[str, Any], name: str | None = None) -> RunConfig:
    """The configuration in `tree` (its sections are mappings, as in a YAML file) with some keys changed.

    `name` is used if neither gives a name. Raises UserError for an unknown key or a value that is not allowed.
    """
    return checked(_read(values, tree), name)


def _read(values: Mapping[str, Any], tree: Mapping[str, Any] | None = None) -> Namespace:
    """`values` (dotted key -> value), laid over `tree`, with the types of the schema. Raises UserError."""
    for key, field in SPELLED.items():
        if key in values and field in values:
            raise UserError(f"--{key} and --{field} {TWO_NAMES}")
    values = {SPELLED.get(key, key): value for key, value in values.items()}
    unknown = [key for key in values if key not in known_keys()]
    if unknown:
        raise UserError(unknown_key(unknown[0], known_keys()))
    given = {**(tree or {}), **values}
    refuse_huge(flat(given))
    try:
        return _parser().parse_object(given, defaults=False)
    except (ArgumentError, TypeError, ValueError, RecursionError) as error:
        raise UserError(one_line(str(error))) from error


def checked(given: Namespace, name: str | None, base: RunConfig | None = None) -> RunConfig:
    """`base` (None: the defaults) with the values that jsonargparse has read; `name` is used if neither gives a name.

    Raises UserError for a value that is not allowed, alone or together with the others.
    """
    config = _with(base or RunConfig(), given.as_dict())
    if config.name is None:
        limits = split_range(known_keys()["name"])[1]
        if name is not None and limits is not None and not limits.holds(name):
            raise UserError(
                f"--name: needs a value, as the file's name, {shortened(name)!r}, is not allowed as a run's name; "
                f"allowed: {limits.words}"
            )
        config = dataclasses.replace(config, name=name)
    check(config)
    return config


def _with(section: Any, given: Mapping[str, Any]) -> Any:
    """A copy of a dataclass of the schema with the given fields changed, also those of the sections inside it."""
    kept = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    changed = {
        name: _with(kept[name], value) if dataclasses.is_dataclass(kept[name]) else value
        for name, value in given.items()
        if name in kept  # `given` may also hold switches of the command line
    }
    return dataclasses.replace(section, **changed)


@cache
def _parser() -> ArgumentParser:
    """A parser of all keys, built once, as a study makes many configurations."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(RunConfig, None)
    return parser


def accepted(config: RunConfig, settings: Mapping[str, Any]) -> bool:
    """Whether the configuration takes these settings (key -> value)."""
    try:
        with_values(config, settings)
    except UserError:
        return False
    return True
