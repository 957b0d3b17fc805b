"""A checked configuration from values by their keys; every mistake is a UserError of one line."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from configs.errors import UserError
from configs.keys import flat, known_keys, one_line, refuse_huge, unknown_key
from configs.rules import check
from configs.schema import RunConfig


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with some keys changed (dotted key -> value), checked as if they came from the command line.

    Raises UserError for an unknown key or a value that is not allowed.
    """
    return from_tree(dataclasses.asdict(config), values)


def from_tree(tree: Mapping[str, Any], values: Mapping[str, Any], name: str | None = None) -> RunConfig:
    """The configuration in `tree` (its sections are mappings, as in a YAML file) with some keys changed.

    `name` is its name where neither gives one. Raises UserError for an unknown key or a value that is not allowed.
    """
    unknown = [key for key in values if key not in known_keys()]
    if unknown:
        raise UserError(unknown_key(unknown[0]))
    refuse_huge(flat({**tree, **values}))
    try:
        fields = _parser().instantiate(_parser().parse_object({**tree, **values}))
    except (ArgumentError, TypeError, ValueError, RecursionError) as error:
        raise UserError(one_line(str(error))) from error
    return checked(fields, name)


def checked(fields: Namespace, name: str | None) -> RunConfig:
    """The configuration of what jsonargparse has read; `name` is its name where it gives none.

    Raises UserError for a value that is not allowed, or not together with the others.
    """
    config = RunConfig(**{field.name: fields[field.name] for field in dataclasses.fields(RunConfig)})
    if config.name is None:
        config = dataclasses.replace(config, name=name)
    check(config)
    return config


@cache
def _parser() -> ArgumentParser:
    """Made once, as a study makes one configuration after the other."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(RunConfig, None)
    return parser
