"""Measure what a step costs (docs/machines.md), try hypergradients where the answer is known
(bilevel), and cut adapters in several ways (cutting). Each is a command, such as `python -m
benchmarks.step`; `--help` lists its options."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autolora.problems.machine.hub import settle_hub_access

# While `python -m benchmarks.step` imports this package, sys.argv[0] is "-m"; in a test it is not.
if sys.argv[0] == "-m":
    # As in run.py, before the libraries that read these settings are imported.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    settle_hub_access()


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """A description keeps its lines, and so its formulas."""


def options(
    about: str | None, defaults: dict[str, Any], argv: Sequence[str] | None
) -> argparse.Namespace:
    """The options of a command: those of `defaults`, whose values give their types, and --json."""
    parser = argparse.ArgumentParser(description=about, formatter_class=_Help)
    for name, value in defaults.items():
        several: dict[str, Any] = {"nargs": "+"} if isinstance(value, list) else {}
        kind: Any = (
            type(value[0]) if isinstance(value, list) else str if value is None else type(value)
        )
        parser.add_argument(f"--{name}", default=value, type=kind, help=" ", **several)
    parser.add_argument("--json", help="file that gets the numbers")
    return parser.parse_args(argv)


def write(place: str | None, numbers: dict[str, Any], asked: argparse.Namespace) -> None:
    """Writes the numbers, with the options, versions and the commit that they belong to, if a file
    was named."""
    from autolora.engine.run.program import commit
    from autolora.engine.run.resources import processor, versions

    if place is not None:
        machine = {"processor": processor(), "versions": versions(), "commit": commit()}
        text = json.dumps(numbers | {"settings": vars(asked), "machine": machine}, indent=2)
        Path(place).write_text(text, encoding="utf-8")
