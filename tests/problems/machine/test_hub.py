"""Without a network: seconds and one line instead of a minute and a page."""

import os
import socket

import pytest
from safetensors import SafetensorError

from autolora.configs.errors import UserError
from autolora.problems.machine.hub import explain_missing, settle_hub_access


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")


@pytest.mark.usefixtures("no_settings")
def test_an_unreachable_hub_switches_the_libraries_to_their_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
    settle_hub_access()
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.usefixtures("no_settings")
def test_a_hub_that_takes_calls_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        settle_hub_access()
    assert os.environ["HF_HUB_OFFLINE"] == ""


@pytest.mark.parametrize("kind", [OSError, SafetensorError])
def test_what_cannot_be_loaded_is_told_by_the_first_line_of_the_library(
    kind: type[Exception],
) -> None:
    error = kind("\nfirst line\n\nsecond line")
    with pytest.raises(UserError) as caught, explain_missing("--task.path", "x"):
        raise error
    assert str(caught.value) == "--task.path: cannot load 'x': first line"
    assert caught.value.__cause__ is error
