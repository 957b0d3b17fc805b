"""Names of the files and folders inside a folder, one line each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self, overload


class Rooted(Protocol):
    """A folder whose class lists the paths in it, as `At` attributes."""

    @property
    def root(self) -> Path:
        """The folder itself."""


class At:
    """A class attribute that gives, on an instance, a path under the instance's `root`.

    `folder`: True for the path of a folder, False for that of a file.
    """

    def __init__(self, relative: str, *, folder: bool = False) -> None:
        self.relative = relative
        self.folder = folder

    @overload
    def __get__(self, folder: None, owner: type) -> Self: ...

    @overload
    def __get__(self, folder: Rooted, owner: type) -> Path: ...

    def __get__(self, folder: Rooted | None, owner: type) -> Self | Path:
        return self if folder is None else folder.root / self.relative


def misplaced(rooted: Rooted) -> Iterator[tuple[Path, str]]:
    """Each path where a file lies instead of a folder, or the reverse, with the kind that belongs there."""
    for name, place in vars(type(rooted)).items():
        if isinstance(place, At):
            path: Path = getattr(rooted, name)
            # A broken link is neither a file nor a folder.
            if (path.exists() or path.is_symlink()) and not (path.is_dir() if place.folder else path.is_file()):
                yield path, "folder" if place.folder else "file"
