"""Runs that end without drawing figures and page, which take half of a tiny run's time and have tests of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autolora.engine import pipeline


@contextmanager
def undrawn() -> Iterator[None]:
    """Inside, no run draws its report: for commands, as run_stages itself takes draw=False."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "write_report", _nothing)
        yield


def _nothing(*_: Any) -> dict[str, Path]:
    return {}
