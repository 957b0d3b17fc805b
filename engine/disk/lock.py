"""One process at a time in a run folder."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from filelock import FileLock, Timeout

from autolora.configs.errors import UserError

log = logging.getLogger("autolora")


_SAME_START = 60.0
"""Seconds: a process with the number of the one that took the lock is another one if it started further from that
time. Some systems reckon the time when a process started from a clock that is set now and then."""


class InUse(UserError):
    """Another process holds the folder."""


class User(NamedTuple):
    """The process that took the lock of a folder."""

    name: str
    """Such as "process 12 on host"."""
    known: bool
    """Whether it is known to be running; False if it is on another machine."""


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keeps the folder `root` for this process alone while the body runs.

    The lock file lies beside the folder, so that it stays when --overwrite exchanges the folder for another. The
    operating system releases the lock of a process that dies, so nobody has to remove a lock by hand. Afterwards,
    folders that did not exist before and are empty are removed. Raises InUse with the pid and host of the process that
    holds the lock, and UserError when the lock file cannot be written.
    """
    place = Path(os.path.realpath(root))
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    path = _lock_of(place)
    # filelock's fallback for file systems without locks would believe that a killed process still holds its lock.
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        before = _owner(path)  # read under the lock: a process that ends properly removes its name first
        path.write_text(json.dumps(_this_process()), encoding="utf-8")
    except Timeout as error:
        owner = _owner(path) or "another process"
        raise InUse(f"--name: {root} is in use by {owner}; wait for it, stop it, or give another --name") from error
    except OSError as error:
        _remove_empty(made)
        raise UserError(f"--runs_folder: cannot write {root} ({error.strerror}); name another folder") from error
    if before:
        log.info("%s ended without releasing %s; this process takes it over", before, root)
    try:
        yield
    finally:
        # The file is removed before the lock is released: else another process could lock it just before it vanishes.
        with suppress(OSError):  # the disk may have become read-only; the next process takes over the file
            path.unlink()
        lock.release()
        _remove_empty(made)


def user_of(root: Path) -> User | None:
    """The process that works in the folder `root`; None if there is none, or if it has ended.

    Only reads the lock file and leaves the lock itself alone, so that a process that starts meanwhile finds it free.
    """
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        path = _lock_of(Path(os.path.realpath(root)))
        content = json.loads(path.read_text(encoding="utf-8"))
        here = content["host"] == socket.gethostname()
        if not here or _runs(int(content["pid"]), float(content["started"])):
            return User(_owner(path), known=here)
    return None


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}


def _runs(pid: int, started: float) -> bool:
    """Whether the process that started then is running; its number may have gone to another one since."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid)
        return found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - started) < _SAME_START
    return False


def _lock_of(place: Path) -> Path:
    return place.with_name(f".{place.name}.lock")


def _owner(path: Path) -> str:
    """The process that wrote the lock file, as "process 12 on host"; "" if the file does not say."""
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return f"process {content['pid']} on {content['host']}"
    return ""


def _remove_empty(folders: list[Path]) -> None:
    """Removes the `folders` that exist, innermost first, and stops at the first that is not empty."""
    with suppress(OSError):
        for folder in filter(Path.exists, folders):
            folder.rmdir()
