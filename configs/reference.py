"""Prints docs/configuration.md from the schema: `python -m autolora.configs.reference > docs/configuration.md`.

A test fails if the file differs from what this module prints.
"""

import dataclasses
import inspect
import typing
from typing import Any

import yaml
from docstring_parser import parse_from_object

from autolora.configs.keys import takes
from autolora.configs.ranges import A_PATH
from autolora.configs.schema import RunConfig

_HEAD = """# Configuration

Every key of a YAML file and of the command line (`--section.key value`). The command line overrides the file, and the
file overrides these defaults; `--print_config` shows the result. Without `--config` the file is
[quickstart.yaml](../configs/quickstart.yaml), whose values stand in place of these defaults.

This page is made from `configs/schema.py` and the `schema_*.py` and `ranges.py` beside it:
`python -m autolora.configs.reference > docs/configuration.md`.

The command line also takes: `--config FILE` (a bare name is looked up in `configs/`),
`--stage all|search|retrain|report|verdict`, `--overwrite`, `--show RUN`,
`--show RUN --for peft|trl|axolotl|llama-factory|unsloth`, `--workspace RUN`,
`--score e2e|webnlg|ner --hyp FILE --ref FILE`; `--help` lists all.
"""


def page() -> str:
    """The text of docs/configuration.md."""
    return _HEAD + "".join(_section(RunConfig, "", "A run"))


def _section(schema: Any, prefix: str, title: str) -> list[str]:
    """A table of the schema's own keys, then its sections."""
    kinds = typing.get_type_hints(schema, include_extras=True)
    # The text below each field of the schema, read as jsonargparse reads it for --help.
    meanings = {field.arg_name: " ".join(str(field.description).split()) for field in parse_from_object(schema).params}
    parts, rows = [], []
    for field in dataclasses.fields(schema):
        kind, key = kinds[field.name], prefix + field.name
        if dataclasses.is_dataclass(kind):
            parts += _section(kind, f"{key}.", f"`{key}`")
        else:
            default = (
                yaml.safe_dump(getattr(schema(), field.name), default_flow_style=True).removesuffix("\n...\n").strip()
            )
            allowed = takes(kind).replace(A_PATH, "a path")  # its limits are those of the file system
            cells = (f"`{key}`", allowed, f"`{default}`", meanings[field.name])
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    heading = f"\n## {title}\n\n{inspect.cleandoc(schema.__doc__)}\n\n"
    return [heading, "| key | takes | default | meaning |\n|---|---|---|---|\n" if rows else "", *rows, *parts]


if __name__ == "__main__":
    print(page(), end="")
