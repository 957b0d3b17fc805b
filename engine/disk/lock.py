"""One process at a time in a run folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from autolora.configs.errors import UserError


class InUse(UserError):
    """Another process holds the folder."""


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keeps the folder `root` for this process alone while the body runs.

    The lock file lies beside the folder, so that it stays when --overwrite exchanges the folder for
    another. The operating system releases the lock of a process that dies, so nobody has to remove
    a lock by hand. Afterwards, folders that did not exist before and are empty are removed. Raises
    InUse when another process holds the lock, and UserError when the lock file cannot be written.
    """
    place = Path(os.path.realpath(root))
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    path = place.with_name(f".{place.name}.lock")
    # filelock's fallback for file systems without locks would believe that a killed process still
    # holds its lock.
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InUse(
            f"--name: {root} is in use by another process; wait for it, or give another --name"
        ) from error
    except OSError as error:
        _remove_empty(made)
        raise UserError(
            f"--runs_folder: cannot write {root} ({error.strerror}); name another folder"
        ) from error
    try:
        yield
    finally:
        # The file is removed before the lock is released: else another process could lock it just
        # before it vanishes.
        with suppress(OSError):  # the disk may have become read-only
            path.unlink()
        lock.release()
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Removes the `folders` that exist, innermost first, and stops at the first that is not
    empty."""
    with suppress(OSError):
        for folder in filter(Path.exists, folders):
            folder.rmdir()
