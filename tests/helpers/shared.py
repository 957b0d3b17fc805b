"""What the workers of one run of the suite make once and share."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` when the first worker asks for it; the others wait."""
    done = folder / ".made"
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
