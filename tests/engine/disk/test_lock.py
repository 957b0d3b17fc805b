"""Two processes never work in one run folder."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from autolora.configs.errors import UserError
from autolora.engine.disk.lock import InUse, User, locked, user_of
from tests.helpers.processes import Process
from tests.helpers.tiny import tiny_arguments


def lock_of(root: Path) -> Path:
    """Beside the folder, which an overwrite exchanges for another while the lock is held."""
    return root.with_name(f".{root.name}.lock")


def test_the_second_is_refused_with_pid_and_host_of_the_first(tmp_path: Path) -> None:
    where = f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}"
    with locked(tmp_path):
        for _ in range(2):  # whoever is refused leaves the owner's file as it is
            with pytest.raises(InUse, match=where), locked(tmp_path):
                pass
    with locked(tmp_path):
        assert lock_of(tmp_path).exists()
    assert not lock_of(tmp_path).exists()


@pytest.mark.parametrize("left", ['{"pid": 999999, "host": "elsewhere"}', "", "{", "[1]"])
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path, left: str, caplog: pytest.LogCaptureFixture) -> None:
    lock_of(tmp_path).write_text(left)
    with caplog.at_level("INFO", "autolora"), locked(tmp_path):
        assert str(os.getpid()) in lock_of(tmp_path).read_text()
    assert ("process 999999 on elsewhere ended without releasing" in caplog.text) == ("999999" in left)


def test_folders_that_stay_empty_are_removed(tmp_path: Path) -> None:
    with locked(tmp_path / "runs" / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a").mkdir()
        (tmp_path / "runs" / "a" / "kept").touch()
    assert (tmp_path / "runs" / "a" / "kept").exists()


def test_a_folder_and_a_link_to_it_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with locked(tmp_path / "link"), pytest.raises(InUse), locked(tmp_path / "a"):
        pass


def test_the_lock_holds_while_the_folder_is_exchanged_for_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with locked(tmp_path / "a"):
        (tmp_path / "a").rename(tmp_path / "c")
        (tmp_path / "b").rename(tmp_path / "a")
        with pytest.raises(InUse), locked(tmp_path / "a"):
            pass


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--runs_folder: cannot write .*file/a"), locked(tmp_path / "file" / "a"):
        pass


def test_who_uses_a_folder_is_asked_without_taking_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert user_of(tmp_path / "a") is None
    me = User(f"process {os.getpid()} on {socket.gethostname()}", known=True)
    with locked(tmp_path / "a"):
        with monkeypatch.context() as patch:
            patch.setattr(FileLock, "acquire", lambda *_, **__: pytest.fail("the lock was taken"))
            assert user_of(tmp_path / "a") == me
        mine = json.loads(lock_of(tmp_path / "a").read_text())
    assert user_of(tmp_path / "a") is None
    left = {
        "another that has the same number": mine | {"started": mine["started"] - 3600},
        "one that has ended": mine | {"pid": 2**22 + 1},
        "half a record": {"pid": os.getpid()},
        "no record": [1],
    }
    with caplog.at_level("INFO", "autolora"):
        for case, content in left.items():
            lock_of(tmp_path / "a").write_text(json.dumps(content))
            assert user_of(tmp_path / "a") is None, case
    lock_of(tmp_path / "a").write_text(json.dumps(mine))
    with monkeypatch.context() as patch:  # its parent has not noticed its end yet
        patch.setattr(psutil.Process, "status", lambda _: psutil.STATUS_ZOMBIE)
        assert user_of(tmp_path / "a") is None
    lock_of(tmp_path / "a").write_text(json.dumps(mine | {"host": "elsewhere"}))
    assert user_of(tmp_path / "a") == User(f"process {os.getpid()} on elsewhere", known=False)
    assert not caplog.records


@pytest.mark.trains
def test_a_second_command_is_refused_and_the_first_goes_on(
    model_folder: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = [*tiny_arguments(model_folder("bert"), tmp_path), "--search.steps", "100000", "--search.patience", "0"]
    first = Process(argv, tmp_path / "first.txt")
    first.wait_for((tmp_path / "runs" / "tiny" / "search" / "checkpoint").exists)
    second = Process([*argv, "--overwrite"], tmp_path / "second.txt")
    assert second.wait() == 2
    said = (tmp_path / "second.txt").read_text()
    assert f"process {first.pid} on {socket.gethostname()}" in said
    assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
    assert "Traceback" not in said
    assert first.kill(signal.SIGTERM) == 143
    assert (tmp_path / "runs" / "tiny" / "search" / "checkpoint").exists()
