"""A search, measured and with ranks, stage by stage, and a search whose losses are not finite."""

from typing import Any

import pytest

from autolora.engine.choose.stage import measure_and_choose
from autolora.engine.run.context import Context
from autolora.engine.search.search import SearchEngine, search


def find_ranks(run: Context) -> SearchEngine:
    """Searches, writes ranks.json, and returns both problems as the search left them (in the
    singular basis)."""
    engine = search(run)
    measure_and_choose(run)
    return engine


def spoil(monkeypatch: pytest.MonkeyPatch, problem: type, steps: set[int], factor: float) -> None:
    """The loss of `problem` is multiplied by `factor` at these of its own steps."""
    original = problem.descent  # type: ignore[attr-defined]

    def descent(self: Any, batch: Any) -> Any:
        loss, gradient = original(self, batch)
        bad = factor if self.count in steps else 1.0
        return loss * bad, [bad * slope for slope in gradient]

    monkeypatch.setattr(problem, "descent", descent)
