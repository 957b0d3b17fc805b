"""Names of the files and folders inside a folder, one line each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self, overload


class Rooted(Protocol):
    """A folder whose class lists its content."""

    @property
    def root(self) -> Path:
        """The folder itself."""


class At:
    """A class attribute that is, on an instance, the path of a file under the instance's `root`; `folder`: of a
    folder."""

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
    """Every path of the folder at which something of the wrong kind lies, with what belongs there: a file or a
    folder."""
    for name, place in vars(type(rooted)).items():
        if isinstance(place, At):
            path: Path = getattr(rooted, name)
            # A link that leads nowhere is neither.
            if (path.exists() or path.is_symlink()) and not (path.is_dir() if place.folder else path.is_file()):
                yield path, "folder" if place.folder else "file"
