"""AutoLoRA on Betty: the importable name of configs/, problems/ and engine/, which are symlinked here."""

from typing import Any

_PUBLIC = ("learn_ranks", "learn_ranks_from_trainer", "measure_adapter")


def __getattr__(name: str) -> Any:
    """The functions for scripts, whose imports take seconds, when they are first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'autolora' has no attribute {name!r}")
    from autolora.engine import api

    return getattr(api, name)
