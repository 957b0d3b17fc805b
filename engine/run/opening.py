"""Open the folder that a command works in, after every check has passed.

With --overwrite the new results grow in the hidden folder `.x.new` beside `x`. Once they are complete, `x` becomes
`x.old-1` and `.x.new` becomes `x`: no finished result is deleted. A command that finds `.x.new` and no `x` was killed
between these two renames, and completes them.
"""

import dataclasses
import filecmp
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Self

from autolora.configs.errors import UserError
from autolora.configs.files import of_folder
from autolora.engine.disk.files import remove, stamp, sync
from autolora.engine.disk.lock import locked
from autolora.engine.run.asked import AskedOf, F, Refusal
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resuming import Outdated

log = logging.getLogger("autolora")


@dataclasses.dataclass(frozen=True)
class Places:
    """A folder of results, and those beside it that an overwrite uses."""

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
        return self.root.with_name(f".{self.root.name}.new")

    @property
    def free(self) -> Path:
        """The first of x.old-1, x.old-2, ... that does not exist yet: where old results are kept."""
        names = (self.root.with_name(f"{self.root.name}.old-{number}") for number in count(1))
        return next(path for path in names if not os.path.lexists(path))


def settle(places: Places) -> bool:
    """Puts complete new results in the place of the old ones, if a kill came between the two renames; returns whether
    it did. The caller holds the lock."""
    if not places.growing.exists() or places.root.exists():
        return False
    os.rename(places.growing, places.root)
    return True


def settle_if_free(root: Path) -> None:
    """Calls `settle` for a command that only reads; does nothing if the folder is in use or cannot be written."""
    places = Places.of(root)
    if places.growing.exists() and not places.root.exists():
        with suppress(UserError, OSError), locked(root):
            settle(places)


def workplace(asked: AskedOf[F]) -> F:
    """The folder that the command writes to: with --overwrite the hidden one beside, if there is what it replaces."""
    growing = asked.folder.at(Places.of(asked.folder.root).growing)
    if asked.replaces and any(path.exists() for path in (growing.root, *asked.folder.outputs(asked.stage))):
        return growing
    return asked.folder


@contextmanager
def opened(asked: AskedOf[F], refusals: Sequence[Refusal[F]], resuming: Sequence[Refusal[F]]) -> Iterator[F]:
    """The folder in which the body works, created if needed; the caller holds the lock of `asked.folder`.

    First `refusals` check the folder that the command names, in their order. Then `resuming` checks the half-done work
    that the command would resume. Raises UserError when a check refuses, or when the folder cannot be written.
    """
    completed = settle(Places.of(asked.folder.root)) and _of_this_command(asked)
    for refuse in refusals:
        refuse(asked)
    folder = asked.folder if completed else workplace(asked)
    if folder != asked.folder:
        with _replacing(asked, folder, resuming):
            yield folder
        return
    for refuse in resuming:
        refuse(asked)
    growing = asked.folder.at(Places.of(asked.folder.root).growing)
    if growing.begun:
        log.info("half-done new results in %s are left alone; --overwrite resumes them", growing.root)
    _make(Path(os.path.realpath(asked.folder.root)))
    yield asked.folder


@contextmanager
def _replacing(asked: AskedOf[F], folder: F, resuming: Sequence[Refusal[F]]) -> Iterator[None]:
    """Lets the body write new results to `folder`, then puts them in the place of the old ones.

    Half-done new results are resumed if `resuming` allows it, else they are kept as old ones are."""
    places, at_work = Places.of(asked.folder.root), dataclasses.replace(asked, folder=folder)
    if folder.begun and (why := asked.outdated or _unfit(at_work, _kept(asked), resuming)):
        kept = places.free
        os.rename(folder.root, kept)
        log.info("--overwrite: half-done new results are not resumed, and are now in %s (%s)", kept, why)
    if not folder.begun:
        remove(folder.root)
        _make(folder.root)
        _seed(folder.root, _kept(asked))
    try:
        for refuse in resuming:
            refuse(at_work)
        log.info(
            "--overwrite: %s in %s; %s stays as it is until they are complete",
            "the half-done new results go on" if folder.begun else "new results are written", folder.root, places.root,
        )  # fmt: skip
        yield
    finally:
        if not folder.begun:
            remove(folder.root)
    old = places.free
    os.rename(places.root, old)
    os.rename(folder.root, places.root)
    sync(places.root.parent)
    log.info("--overwrite: the old results are in %s (%.1f MiB)", old, _size(old) / 2**20)


def again_if_outdated(asked: AskedOf[F], work: Callable[[AskedOf[F]], None]) -> None:
    """Calls `work`, which opens the folder of `asked`.

    With --overwrite it calls `work` a second time, from the beginning, if the first call resumed half-done new results
    that turned out to be outdated.
    """
    try:
        work(asked)
    except Outdated as error:
        if not asked.replaces:
            raise
        work(dataclasses.replace(asked, outdated=str(error)))


@contextmanager
def nothing_left_when_refused(folder: RunFolder) -> Iterator[None]:
    """If the body raises UserError before it has begun to train, deletes the files that it wrote."""
    before, began = _content(folder), stamp(folder.config)
    try:
        yield
    except UserError:
        if stamp(folder.config) == began:
            for path in _content(folder) - before:
                remove(path)
        raise


def _content(folder: RunFolder) -> set[Path]:
    """Those paths that exist now, of all that a run may write before it trains: wandb's files, and the figures."""
    wandb = folder.root / "wandb"
    inside = set(wandb.iterdir()) if wandb.is_dir() else set()
    return inside | {path for path in (wandb, folder.wandb_id, folder.figures) if path.exists()}


def _of_this_command(asked: AskedOf[F]) -> bool:
    """Whether the results that `settle` has just put in place were made with the settings of this command, so that
    nothing needs to be done again."""
    config = RunFolder(asked.folder.root).config
    same = config.exists() and config.read_text(encoding="utf-8") == of_folder(asked.config)
    if same and asked.replaces:
        log.info("--overwrite: the new results were already complete, and are now in %s", asked.folder.root)
    return same


def _unfit(at_work: AskedOf[F], kept: Sequence[Path], resuming: Sequence[Refusal[F]]) -> str:
    """The reason why half-done new results cannot be resumed; empty if they can."""
    try:
        for path in kept:
            if not _equal(path, at_work.folder.root / path.name):
                raise UserError(f"they began with another {path.name}")
        for refuse in resuming:
            refuse(at_work)
    except UserError as error:
        return str(error)
    return ""


def _equal(one: Path, other: Path) -> bool:
    """Whether all files below `one`, or it itself, have the same content in `other`."""
    files = [path for path in one.rglob("*") if path.is_file()] if one.is_dir() else [one]
    pairs = ((path, other / path.relative_to(one)) for path in files)
    return all(copy.is_file() and filecmp.cmp(path, copy, shallow=False) for path, copy in pairs)


def _kept(asked: AskedOf[F]) -> list[Path]:
    """The old files that the new results need: those of the stages before the ones that the command runs."""
    replaced = asked.folder.outputs(asked.stage)
    return [path for path in asked.folder.outputs("all") if path not in replaced and path.exists()]


def _seed(growing: Path, kept: Sequence[Path]) -> None:
    """Fills the folder of new results with what they need of the old ones."""
    for path in kept:
        if path.is_dir():
            shutil.copytree(path, growing / path.name, symlinks=True, copy_function=_link)
        else:  # copied, as an editor may write into the old file while the new results are written
            shutil.copy2(path, growing)


def _link(source: str, target: str) -> None:
    """Makes a hard link to a file, or a copy if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--runs_folder: cannot write {folder} ({error.strerror})") from error


def _size(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
