"""What happens before a benchmark imports its libraries."""

import importlib
import os
import sys

import pytest

import benchmarks
from autolora.problems.machine import hub


@pytest.mark.parametrize(("started", "steps"), [("-m", ["hub"]), ("pytest", [])])
def test_a_started_benchmark_settles_the_hub_first(
    monkeypatch: pytest.MonkeyPatch, started: str, steps: list[str]
) -> None:
    """`python -m` sets argv[0] to "-m" while it imports the package; a test only imports it."""
    found: list[str] = []
    monkeypatch.setattr(hub, "settle_hub_access", lambda: found.append("hub"))
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", os.environ.get("TOKENIZERS_PARALLELISM", "false"))
    importlib.reload(benchmarks)
    assert found == steps
