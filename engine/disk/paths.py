"""Names of the files and folders inside a folder, one line each."""

from pathlib import Path
from typing import Protocol, Self, overload


class Rooted(Protocol):
    """A folder whose class lists the paths in it, as `At` attributes."""

    @property
    def root(self) -> Path:
        """The folder itself."""


class At:
    """A class attribute that gives, on an instance, a path under the instance's `root`."""

    def __init__(self, relative: str) -> None:
        self.relative = relative

    @overload
    def __get__(self, folder: None, owner: type) -> Self: ...

    @overload
    def __get__(self, folder: Rooted, owner: type) -> Path: ...

    def __get__(self, folder: Rooted | None, owner: type) -> Self | Path:
        return self if folder is None else folder.root / self.relative
