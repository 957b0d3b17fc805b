"""Searches that a signal stops."""

from collections.abc import Callable
from typing import Any

import pytest

from autolora.engine.search.search import SearchHook


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """stop_at(3): a signal comes during step 3; stop_at(0): none comes. A signal before the first step would end a
    search while its model is loaded, so that nothing could be resumed."""
    original = SearchHook.after_step

    def at(step: int) -> None:
        def after_step(self: SearchHook, engine: Any, over: bool) -> None:
            if engine.global_step == step:
                self.stop.code = 130
            original(self, engine, over)

        monkeypatch.setattr(SearchHook, "after_step", after_step if step else original)

    return at
