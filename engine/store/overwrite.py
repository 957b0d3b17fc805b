"""The folder that a command works in, and with --overwrite the hidden one beside it.

With --overwrite, what was made from something else is made anew in `.x.new` beside `x`, which
begins with hard links of the stages before. Once it is complete, `x` becomes `x.old-1` and `.x.new`
becomes `x`: no finished result is deleted. A command that finds `.x.new` and no `x` was killed
between these two renames, and completes them.
"""

import dataclasses
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Self

from autolora.engine.disk.files import remove, sync
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Changed, places_of
from autolora.problems.machine.processes import Processes

log = logging.getLogger("autolora")


@dataclasses.dataclass(frozen=True)
class OverwriteFolders:
    """A folder of results, and those beside it that an overwrite uses."""

    root: Path

    @classmethod
    def of(cls, root: Path) -> Self:
        """The folders of a run's or a study's folder; for a link, those of the folder that it leads
        to."""
        return cls(Path(os.path.realpath(root)))

    @property
    def staging(self) -> Path:
        """Where new results are written until they are complete."""
        return self.root.with_name(f".{self.root.name}.new")

    @property
    def free(self) -> Path:
        """The first of x.old-1, x.old-2, ... that does not exist yet: where old results are
        kept."""
        names = (self.root.with_name(f"{self.root.name}.old-{number}") for number in count(1))
        return next(path for path in names if not os.path.lexists(path))


def finish_swap(folders: OverwriteFolders) -> None:
    """Puts complete new results in the place of the old ones, if a kill came between the two
    renames."""
    if folders.staging.exists() and not folders.root.exists():
        os.rename(folders.staging, folders.root)


def staging_beside(
    folder: RunFolder,
    kept: Sequence[str],
    changed: Changed,
    work: Callable[[RunFolder], None],
    processes: Processes,
) -> None:
    """Makes new results by `work` in the hidden folder beside, then puts them in the place of the
    old ones.

    `kept`: the stages of this run; `changed`: the first of them that is made anew. Half-done new
    results go on if they are of this command, else they are kept as old ones are.
    """
    folders = OverwriteFolders.of(folder.root)
    first = kept.index(changed.stage)
    new = RunFolder(folders.staging)
    log.info(
        "--overwrite: new results are made in %s; the old ones stay until they are complete",
        new.root,
    )
    while True:
        processes.of_first(partial(_fill, new, folder, kept[:first]))
        try:
            work(new)
            return processes.of_first(lambda: _swap(folders))
        except Changed as later:
            if processes.of_first(lambda: new.begun):  # half-done results of another command
                processes.of_first(lambda: put_aside(new.root, folders.root))
            else:  # found once the rows or the base model were loaded
                first = kept.index(later.stage)
        finally:
            if processes.first and not new.begun:
                remove(new.root)


def _fill(new: RunFolder, old: RunFolder, kept: Sequence[str]) -> None:
    """Begins the folder of new results, unless it is there, with hard links of what these stages
    have written; all of them or none."""
    if new.root.exists():
        return
    filled = new.root.with_name(f"{new.root.name}.tmp")
    remove(filled)
    filled.mkdir(parents=True)
    for name in kept:
        for path in places_of(old, name):
            target = filled / path.relative_to(old.root)
            if path.is_dir():
                shutil.copytree(path, target, copy_function=_link, dirs_exist_ok=True)
            else:
                # copied, as an editor may write into the old file while the new results are made
                shutil.copy2(path, target)
    os.rename(filled, new.root)


def _link(source: str, target: str) -> None:
    """Makes a hard link to a file, or a copy if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _swap(folders: OverwriteFolders) -> None:
    old = folders.free
    os.rename(folders.root, old)
    os.rename(folders.staging, folders.root)
    sync(folders.root.parent)
    size = sum(path.stat().st_size for path in old.rglob("*") if path.is_file())
    log.info("--overwrite: the old results are in %s (%.1f MiB)", old, size / 2**20)


def put_aside(path: Path, root: Path) -> None:
    """Renames `path` to the first free root.old-N, and says so."""
    if path.exists():
        os.rename(path, old := OverwriteFolders(root).free)
        log.info("--overwrite: what was in %s is kept in %s", path, old)


def put_evaluation_aside(folder: RunFolder) -> None:
    """Moves the files of an earlier evaluation to evaluate.old-N."""
    old = OverwriteFolders(folder.root / "evaluate").free
    for path in reversed(places_of(folder, "evaluate")):  # metrics.json first
        old.mkdir(exist_ok=True)
        os.rename(path, old / ("manifest" if path.is_dir() else path.name))
