"""The tiers of the suite: unit, not slow, everything; and soak, which is outside all of them."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def mark_tiers(items: list[pytest.Item]) -> None:
    """Makes every test without a marker of another tier a unit test, unless a fixture builds a model for it."""
    for item in items:
        if "model_folder" in getattr(item, "fixturenames", ()):
            item.add_marker("trains")
        if not any(item.get_closest_marker(name) for name in ("trains", "slow", "soak")):
            item.add_marker("unit")


def without_soak(items: list[pytest.Item], expression: str) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests to run and the tests left out: those marked soak run only where -m names them."""
    if "soak" in expression:
        return items, []
    left_out = [item for item in items if item.get_closest_marker("soak")]
    return [item for item in items if not item.get_closest_marker("soak")], left_out


@contextmanager
def no_training() -> Iterator[None]:
    """Inside, a search, a training and the start of a process fail the test, also in its fixtures."""
    # Only the workers need what takes seconds to import.
    from betty.engine import Engine
    from transformers import Trainer

    from autolora.engine.run.program import commit

    commit()  # which asks git, once in a process

    def refuse(what: str) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            pytest.fail(f"a unit test may not {what}: mark it @pytest.mark.trains")

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "run", refuse("search"))
        patch.setattr(Trainer, "train", refuse("train"))
        patch.setattr(subprocess.Popen, "__init__", refuse("start a process"))
        patch.setattr(os, "fork", refuse("start a process"))
        yield
