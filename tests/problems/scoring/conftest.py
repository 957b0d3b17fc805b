"""Real system outputs with the official scores, where this machine has them; Java, and a machine without it."""

from pathlib import Path

import pytest

from autolora.problems.scoring.java import find_java
from tests.helpers.places import SHARED

METRIC_REFS = SHARED / "metric_refs"


@pytest.fixture(scope="session")
def metric_refs() -> Path:
    """Folder of the real outputs; the test is skipped without it."""
    if not METRIC_REFS.is_dir():
        pytest.skip(f"no real system outputs at {METRIC_REFS}")
    return METRIC_REFS


@pytest.fixture(scope="session")
def java() -> str:
    """Path of Java; the test is skipped without it."""
    path = find_java()
    if path is None:
        pytest.skip("needs Java (Debian package default-jre-headless)")
    return path


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without Java."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
