"""Tell a script which of its settings its search does not read."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.unread import reason
from autolora.engine.terminal.console import inputs


def tell_unread(sections: Iterable[str], config: RunConfig) -> None:
    """Reports each field of these sections of `config` that is not at its default and that the search does not read.

    Raises UserError for a field that another setting overrules; warns of the others, in one line for each reason."""
    said: dict[str, list[str]] = {}
    for key in (key for section in sections for key in _changed(section, getattr(config, section))):
        row = reason(key, config)
        if row is None:
            continue
        why = row.why.format(c=config)
        if row.instead:
            raise UserError(f"--{key}: does nothing {why}; {row.instead}")
        said.setdefault(why, []).append(f"--{key}")
    for why, keys in said.items():
        inputs.warning("%s %s nothing %s", ", ".join(keys), "do" if len(keys) > 1 else "does", why)


def _changed(name: str, section: Any) -> Iterable[str]:
    """The keys of the fields that are not at their default."""
    default = type(section)()
    for field in dataclasses.fields(section):
        if getattr(section, field.name) != getattr(default, field.name):
            yield f"{name}.{field.name}"
