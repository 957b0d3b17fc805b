"""--overwrite: new results are written into a hidden folder beside the old ones, and replace them when complete."""

import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.engine.disk.files import read_json, remove, write_json
from autolora.engine.disk.newest import checksum
from autolora.engine.run.asked import AskedOf, F, Refusal
from autolora.engine.run.settling import RECORD, Places, finish

log = logging.getLogger("autolora")

_BEGAN_WITH = "began_with"


def workplace(asked: AskedOf[F]) -> F:
    """The folder that the command writes to: with --overwrite the hidden one beside, else the one that it names."""
    root = asked.folder.root
    return asked.folder.at(Places.of(root).growing) if asked.replaces else asked.folder


@contextmanager
def replacing(asked: AskedOf[F], resuming: Sequence[Refusal[F]]) -> Iterator[F]:
    """The folder into which the new results are written; if the body ends without an error, they replace the old ones.

    Half-done new results are resumed if `resuming` allows it. Otherwise they are set aside and fresh ones begin; if
    the fresh ones are refused before they have begun to train, the half-done ones are put back. Raises UserError when
    a check refuses.
    """
    places, folder = Places.of(asked.folder.root), workplace(asked)
    try:
        with _originals_named(asked, folder):
            _open(asked, places, folder, resuming)
            yield folder
        _forget_other_results(places, folder)
        _take_place(asked, places)
    finally:
        if not places.complete:
            _forget_other_results(places, folder)


@contextmanager
def _originals_named(asked: AskedOf[F], folder: F) -> Iterator[None]:
    """If a message is about a file that was copied from the old results, puts the original's path in it.

    The copy will be gone, so it is the original that the user must repair.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        for path in _kept(asked):
            message = message.replace(str(folder.root / path.name), str(path))
        raise type(error)(message) from error


def _open(asked: AskedOf[F], places: Places, folder: F, resuming: Sequence[Refusal[F]]) -> None:
    """Creates the folder of the new results, or resumes the one that an earlier command left half done."""
    at_work = dataclasses.replace(asked, folder=folder)
    _forget_other_results(places, folder)
    kept = _kept(asked)
    sums = {str(path.relative_to(asked.folder.root)): checksum(path) for top in kept for path in _files(top)}
    if folder.begun and (why := asked.outdated or _unfit(at_work, sums, resuming)):
        log.info("--overwrite: the half-done new results in %s are not resumed (%s)", folder.root, why)
        os.replace(folder.root, places.set_aside)
    resumed = folder.begun
    if not resumed:
        _seed(folder.root, kept, sums)
    for refuse in resuming:
        refuse(at_work)
    lost = asked.folder.also_lost(asked.stage)
    log.info(
        "--overwrite: %s in %s; %s is not touched until they are complete%s",
        "resuming the half-done new results" if resumed else "writing the new results", folder.root, asked.folder.root,
        f", and then loses its {lost}" if lost else "",
    )  # fmt: skip


def _forget_other_results(places: Places, folder: F) -> None:
    """Keeps the new results if they have begun to train, else those that were set aside; removes the other ones."""
    if not folder.begun:
        remove(folder.root)
        if places.set_aside.exists():
            os.replace(places.set_aside, folder.root)
    elif places.set_aside.exists():
        remove(places.set_aside)


def _unfit(at_work: AskedOf[F], sums: dict[str, str], resuming: Sequence[Refusal[F]]) -> str:
    """The reason why half-done new results cannot be resumed; empty if they can."""
    try:
        if read_json(at_work.folder.root / RECORD).get(_BEGAN_WITH) != sums:
            return "they began with other files"
        for refuse in resuming:
            refuse(at_work)
    except UserError as error:
        return str(error)
    return ""


def _kept(asked: AskedOf[F]) -> list[Path]:
    """The old files that the new results need: those of the stages before the ones that the command runs."""
    replaced = asked.folder.outputs(asked.stage)
    return [path for path in asked.folder.outputs("all") if path not in replaced and path.exists()]


def _files(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]


def _seed(growing: Path, kept: Sequence[Path], sums: dict[str, str]) -> None:
    """Creates the folder of new results, fills it with `kept`, and writes its record last."""
    try:
        growing.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--runs_folder: cannot write {growing} ({error.strerror})") from error
    for path in kept:
        if path.is_dir():
            shutil.copytree(path, growing / path.name, symlinks=True, copy_function=_link)
        else:  # copied, as an editor may write into the old file while the new results are written
            shutil.copy2(path, growing)
    write_json(growing / RECORD, {_BEGAN_WITH: sums})


def _link(source: str, target: str) -> None:
    """Makes a hard link to a file, or a copy if the file system has no hard links."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


def _take_place(asked: AskedOf[F], places: Places) -> None:
    try:
        finish(places, asked.folder.patterns())
    except OSError as error:
        if not places.complete:  # the disk is full: the record could not be written
            raise
        raise UserError(
            f"--overwrite: the new results of {asked.folder.root} are complete, but {error.filename} is in the way of "
            f"the exchange with the old ones ({error.strerror}); the same command tries again"
        ) from error
