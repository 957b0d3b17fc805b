"""Names of the files and folders inside a folder, one line each."""

from pathlib import Path
from typing import Any


class At:
    """A class attribute that gives, on an instance, a path under the instance's `root`."""

    def __init__(self, relative: str) -> None:
        self.relative = relative

    def __get__(self, folder: Any, owner: type) -> Path:
        path: Path = folder.root / self.relative
        return path
