"""One cell in a worker: what becomes of it, and the folder that a dead worker may still hold."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.requests import Request
from configs.schema import RunConfig
from configs.values import with_values
from engine.disk.lock import locked
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.study.launchers import ray_worker
from engine.study.launchers.ray_worker import run_cell


@pytest.fixture(autouse=True)
def terminal_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is silent for good; this process is not to be."""
    monkeypatch.setattr("engine.terminal.console.quiet_libraries", lambda **_: None)


@pytest.fixture
def request_(tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Request:
    monkeypatch.chdir(tmp_path)
    return Request(tiny_config(), "all", False, "study.yaml")


def folder(request: Request) -> RunFolder:
    return RunFolder(Path(request.config.runs_folder) / str(request.config.name))


def test_a_worker_waits_until_the_folder_of_a_dying_one_is_free(request_: Request, tmp_path: Path) -> None:
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(folder(request_).root):
            held.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    threading.Timer(0.5, let_go.set).start()
    assert run_cell(request_, str(tmp_path)).error is None
    holder.join()
    assert folder(request_).metrics.exists()


def test_errors_come_back_as_lines(request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Request(with_values(request_.config, {"lora.target_modules": ["nothing"]}), "all", False, "study.yaml")
    outcome = run_cell(bad, str(tmp_path))
    assert outcome.error is not None
    assert outcome.error.startswith("--lora.target_modules")
    assert outcome.trace is None
    monkeypatch.setattr("engine.stages.run_stages", lambda *_, **__: 1 / 0)
    outcome = run_cell(request_, str(tmp_path))
    assert outcome.error == "ZeroDivisionError: division by zero"
    assert outcome.trace is not None
    assert "Traceback" in outcome.trace


def test_the_wait_ends(request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "SECONDS_FOR_THE_LOCK", 0.1)
    with locked(folder(request_).root):
        outcome = run_cell(request_, str(tmp_path))
    assert outcome.error is not None
    assert "is in use" in outcome.error


def test_a_signal_leaves_a_cell_that_can_go_on(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(request: Request, stop: StopRequest, **_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.check()

    monkeypatch.setattr("engine.stages.run_stages", stages)
    assert run_cell(request_, str(tmp_path)).stopped
