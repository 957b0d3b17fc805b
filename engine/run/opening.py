"""Open the folder that a command works in, after every check has passed."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.engine.disk.files import remove, stamp
from autolora.engine.run.asked import AskedOf, F, Refusal
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.replacing import replacing
from autolora.engine.run.resuming import Outdated
from autolora.engine.run.settling import Places, settle

log = logging.getLogger("autolora")


@contextmanager
def opened(asked: AskedOf[F], refusals: Sequence[Refusal[F]], resuming: Sequence[Refusal[F]]) -> Iterator[F]:
    """The folder in which the body works, created if needed; the caller holds the lock of `asked.folder`.

    First `refusals` check the folder that the command names, in their order. Then `resuming` checks the half-done work
    that the command would resume. With --overwrite that work lies beside the folder, and replaces it when the body has
    ended without an error. Raises UserError when a check refuses, or when the folder cannot be written.
    """
    completed = settle(Places.of(asked.folder.root)) and _of_this_command(asked)
    for refuse in refusals:
        refuse(asked)
    if asked.replaces and not completed:
        with replacing(asked, resuming) as folder:
            yield folder
        return
    for refuse in resuming:
        refuse(asked)
    growing = asked.folder.at(Places.of(asked.folder.root).growing)
    if growing.begun:
        log.info("half-done new results in %s are left alone; --overwrite resumes them", growing.root)
    try:
        Path(os.path.realpath(asked.folder.root)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--runs_folder: cannot write {asked.folder.root} ({error.strerror})") from error
    yield asked.folder


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


def _of_this_command(asked: AskedOf[F]) -> bool:
    """Whether results that `settle` has just put in place were made with the settings of this command.

    If so, an earlier run of this command was interrupted while they replaced the old ones: nothing needs to be done
    again.
    """
    config = RunFolder(asked.folder.root).config
    same = config.exists() and config.read_text(encoding="utf-8") == to_yaml(asked.config)
    if same and asked.replaces:
        log.info("--overwrite: the new results were already complete, and are now in %s", asked.folder.root)
    return same


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
