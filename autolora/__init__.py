"""AutoLoRA on Betty: the importable name of configs/, problems/, engine/ and run.py, which are
symlinked here."""

import runpy
from importlib import import_module
from typing import Any

from autolora.configs.errors import UserError as UserError

_PUBLIC = {
    "learn_ranks": "learning",
    "learn_ranks_from_trainer": "learning",
    "measure_adapter": "adapter",
}


def __getattr__(name: str) -> Any:
    """The functions for scripts, whose imports take seconds, when they are first asked for.
    Measuring needs no Betty.

    Raises ImportError, with the command, where Betty lacks."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'autolora' has no attribute {name!r}")
    try:
        return getattr(import_module(f"autolora.engine.api.{_PUBLIC[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "betty":
            raise
        command = "pip install --no-deps --ignore-requires-python betty-ml==0.2.1"
        raise ImportError(f"{name} needs Betty; run: {command}") from error


def command() -> None:
    """The command `autolora`, which is run.py."""
    runpy.run_module("autolora", run_name="__main__", alter_sys=True)
