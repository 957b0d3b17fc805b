"""The line before the libraries are loaded, and what is asked before and after."""

import sys

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.terminal import loading
from autolora.engine.terminal.loading import load_libraries


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whether the hub is asked for."""
    found: list[str] = []
    monkeypatch.setattr(loading, "settle_hub_access", lambda: found.append("hub"))
    monkeypatch.setattr(loading, "quiet_libraries", lambda: found.append("quiet"))
    return found


def test_once_they_are_loaded_nothing_is_said_and_the_hub_is_not_asked(
    asked: list[str], log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_libraries()
    assert (asked, log_lines) == (["quiet"], [])
    monkeypatch.delitem(sys.modules, "datasets")
    load_libraries()
    assert asked == ["quiet", "hub", "quiet"]
    assert log_lines == ["INFO loading torch, transformers and datasets, which takes some seconds"]


def test_a_missing_device_is_refused_before_transformers_is_loaded(asked: list[str]) -> None:
    with pytest.raises(UserError, match=r"^--device: 'mps' is not available here"):
        load_libraries(RunConfig(name="a", device="mps"))
    assert asked == []
