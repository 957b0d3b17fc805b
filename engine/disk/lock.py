"""One process at a time in a run folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import UserError

log = logging.getLogger("autolora")

LOCK = ".lock"


class InUse(UserError):
    """Another process holds the folder."""


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """The folder `root` for this process alone; made if need be, and removed again when nothing was put into it.

    The operating system drops the lock of a process that dies, so a lock never has to be removed by hand. Raises
    InUse with the other's pid and host when the folder is in use, UserError when it cannot be written.
    """
    made: list[Path] = []
    try:
        made = _make(root)
        handle = _take(root / LOCK)
    except OSError as error:
        _remove_empty(made)
        raise UserError(f"--runs_folder: cannot write {root} ({error.strerror}); name another folder") from error
    try:
        yield
    finally:
        # Before it is let go, so that nobody can hold a file that is no longer there.
        (root / LOCK).unlink(missing_ok=True)
        os.close(handle)
        _remove_empty(made)


def _make(root: Path) -> list[Path]:
    """Makes `root` and what is missing above it; returns what was made, the innermost first."""
    missing = [path for path in (root, *root.parents) if not path.exists()]
    root.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _take(path: Path) -> int:
    """An open file that holds the lock; `path` then says who we are."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _owner(handle)
            os.close(handle)
            raise InUse(
                f"--name: {path.parent} is in use by process {owner.get('pid', '?')} on {owner.get('host', '?')}; "
                f"wait for it, stop it, or give another --name"
            ) from error
        if _same_file(handle, path):
            break
        os.close(handle)  # its owner removed it between our two calls
    before = _owner(handle)
    if before:
        log.info(
            "taking the folder over: process %s on %s has ended without a word", before.get("pid"), before.get("host")
        )
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    return handle


def _owner(handle: int) -> dict[str, Any]:
    try:
        content = json.loads(os.pread(handle, 1000, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
