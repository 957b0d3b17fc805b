"""Put complete new results in the place of the old ones, so that an interruption at any moment loses nothing.

The new results lie beside the old ones, with a record that says that they are complete. The two folders are exchanged,
the user's own files are moved from the old results to the new ones, the old results are removed, and the record is
removed last. After an interruption, the record and the folders that exist tell which of these steps is next.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any, Self

from autolora.configs.errors import UserError
from autolora.engine.disk import exchange
from autolora.engine.disk.files import read_json, remove, sync, write_json
from autolora.engine.disk.lock import locked

RECORD = ".overwrite.json"
"""In a folder of new results: what they began with, and whether they are complete."""


@dataclass(frozen=True)
class Places:
    """A folder of results, and the hidden ones beside it that an overwrite uses."""

    root: Path

    @classmethod
    def of(cls, root: Path) -> Self:
        """The places of a run's or a study's folder; for a link, those of the folder that it leads to."""
        real = Path(os.path.realpath(root))
        if not real.name:
            raise UserError(f"{root}: is not allowed as the folder of a run; allowed: runs/quickstart, for example")
        return cls(real)

    @property
    def growing(self) -> Path:
        """Where new results are written until they are complete."""
        return self.root.with_name(f".{self.root.name}.overwrite")

    @property
    def set_aside(self) -> Path:
        """Where half-done new results under other settings wait until the fresh ones have begun to train."""
        return self.root.with_name(f".{self.root.name}.set-aside")

    @property
    def old(self) -> Path:
        """Where the old results wait to be removed, on a file system that cannot exchange two folders."""
        return self.root.with_name(f".{self.root.name}.replaced")

    @property
    def complete(self) -> bool:
        """Whether there are complete new results that have not yet fully replaced the old ones."""
        return bool(_ours(self.growing) or _ours(self.root))


def finish(places: Places, ours: Sequence[str]) -> None:
    """Marks the new results as complete, and puts them in the place of the old ones.

    `ours`: patterns of what this program writes there. Everything else in the old folder is the user's, and is kept.
    """
    for path in places.growing.rglob("*"):
        if path.is_file() and not path.is_symlink():
            sync(path)
    write_json(places.growing / RECORD, {"ours": [*ours, RECORD]})
    sync(places.growing)
    settle(places)


def settle(places: Places) -> bool:
    """Completes the exchange if there are complete new results, else returns False. The caller holds the lock."""
    if _ours(places.growing):
        _exchange(places)
    ours = _ours(places.root)
    if not ours:
        return False
    for old in (places.growing, places.old):
        if old.exists():
            _bring_over(old, places.root, PurePath(), [PurePath(pattern).parts for pattern in ours])
            sync(places.root.parent)
            remove(old)
    remove(places.root / RECORD)
    return True


def settle_if_free(root: Path) -> None:
    """Calls `settle` for a command that only reads; does nothing if the folder is in use or cannot be written."""
    places = Places.of(root)
    if places.complete:
        with suppress(UserError, OSError), locked(root):
            settle(places)


def _ours(folder: Path) -> list[str]:
    """The patterns in a folder's record of complete results; empty if it has no such record."""
    with suppress(UserError):
        found: Any = read_json(folder / RECORD).get("ours")
        # A value that this program does not write is ignored, like a record that cannot be read.
        if isinstance(found, list) and all(isinstance(pattern, str) and pattern for pattern in found):
            return found
    return []


def _exchange(places: Places) -> None:
    if places.root.exists() and any(places.root.iterdir()):
        if exchange.swap(places.growing, places.root):
            sync(places.root.parent)
            return
        os.replace(places.root, places.old)
    os.replace(places.growing, places.root)
    sync(places.root.parent)


def _bring_over(old: Path, new: Path, below: PurePath, ours: Sequence[tuple[str, ...]]) -> None:
    """Moves the user's own files from `old` to `new`, folder by folder; never replaces a file in `new`."""
    for path in sorted((old / below).iterdir()):
        inside = below / path.name
        if any(_fits(inside.parts, pattern) for pattern in ours):
            continue
        target = new / inside
        leads_to_ours = any(_fits(inside.parts, pattern[: len(inside.parts)]) for pattern in ours)
        if (leads_to_ours or target.is_dir()) and path.is_dir() and not path.is_symlink():
            _bring_over(old, new, inside, ours)
        elif not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))
