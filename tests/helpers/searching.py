"""A search whose losses are not finite."""

from typing import Any

import pytest


def spoil(monkeypatch: pytest.MonkeyPatch, problem: type, steps: set[int], factor: float) -> None:
    """The loss of `problem` is multiplied by `factor` at these of its own steps."""
    original = problem.descent  # type: ignore[attr-defined]

    def descent(self: Any, batch: Any) -> Any:
        loss, gradient = original(self, batch)
        bad = factor if self.count in steps else 1.0
        return loss * bad, [bad * slope for slope in gradient]

    monkeypatch.setattr(problem, "descent", descent)
