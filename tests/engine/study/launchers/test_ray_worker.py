"""One cell in a worker: what becomes of it, and the folder that a dead worker may still hold."""

import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.disk.lock import InUse, locked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.study.launchers import ray_worker
from autolora.engine.study.launchers.ray_worker import run_cell


@pytest.fixture(autouse=True)
def terminal_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is silent for good; this process is not to be."""
    monkeypatch.setattr("autolora.engine.terminal.console.show_log", lambda **_: None)


@pytest.fixture
def request_(tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Request:
    monkeypatch.chdir(tmp_path)
    return Request(tiny_config(), "all", False, "study.yaml")


def folder(request: Request) -> RunFolder:
    return RunFolder(Path(request.config.runs_folder) / str(request.config.name))


@pytest.mark.slow
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
    run_cell(request_, str(tmp_path))
    holder.join()
    assert folder(request_).metrics.exists()


@pytest.mark.trains
def test_errors_leave_the_worker_as_they_are(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Request(with_values(request_.config, {"lora.target_modules": ["nothing"]}), "all", False, "study.yaml")
    with pytest.raises(UserError, match=r"^--lora\.target_modules") as caught:
        run_cell(bad, str(tmp_path))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "Ray sends it to the launching process"
    monkeypatch.setattr("autolora.engine.stages.run_stages", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run_cell(request_, str(tmp_path))


@pytest.mark.trains
def test_the_wait_ends(request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "SECONDS_FOR_THE_LOCK", 0.1)
    with locked(folder(request_).root), pytest.raises(InUse, match="is in use"):
        run_cell(request_, str(tmp_path))


@pytest.mark.trains
def test_a_signal_leaves_a_cell_that_can_go_on(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(request: Request, stop: StopRequest, **_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.check()

    monkeypatch.setattr("autolora.engine.stages.run_stages", stages)
    with pytest.raises(Interrupted) as stopped:
        run_cell(request_, str(tmp_path))
    assert pickle.loads(pickle.dumps(stopped.value)).code == 143


@pytest.mark.trains
def test_warnings_are_returned_and_go_with_an_error(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(request: Request, stop: StopRequest, **_: object) -> None:
        logging.getLogger("autolora").info("not this")
        logging.getLogger("autolora.inputs").warning("%d rows are cut", 2)
        if broken:
            raise UserError("--seed: no")

    monkeypatch.setattr("autolora.engine.stages.run_stages", stages)
    broken, expected = False, [("autolora.inputs", "2 rows are cut")]
    for _ in range(2):  # a worker takes one cell after the other
        assert run_cell(request_, str(tmp_path)) == expected
    broken = True
    with pytest.raises(UserError) as caught:
        run_cell(request_, str(tmp_path))
    assert getattr(pickle.loads(pickle.dumps(caught.value)), ray_worker.WARNED) == expected
