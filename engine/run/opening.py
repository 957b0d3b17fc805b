"""May this run start, resume or overwrite? All refusals that need no model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import UserError
from configs.rules import SEARCHING
from configs.schema import RunConfig, Stage
from engine.disk.files import remove
from engine.run.folder import RunFolder


def open_folder(config: RunConfig, stage: Stage, overwrite: bool) -> RunFolder:
    """The run's folder, made if need be; `overwrite` clears what the asked stage wrote before.

    Raises UserError when the stage is already finished there (its report is drawn), or the folder cannot be written.
    """
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    searches = config.method in SEARCHING
    if stage == "search" and not searches:
        raise UserError(
            f"--stage: 'search' is not allowed for --method {config.method}, which has none; allowed: all, retrain"
        )
    finished = {"all": folder.metrics, "retrain": folder.metrics, "search": folder.ranks}.get(stage)
    if finished is not None and finished.exists() and folder.report.exists() and not overwrite:
        raise UserError(
            f"--name: {folder.root} already holds a finished run; --overwrite replaces it, --name starts another, "
            f"--stage report only draws it again"
        )
    if stage == "report" and not searches and not folder.metrics.exists():
        raise UserError(f"--stage report: {folder.metrics} does not exist; --stage all writes it")
    if stage in ("retrain", "report") and searches and not folder.ranks.exists():
        raise UserError(
            f"--stage {stage}: {folder.ranks} does not exist; --stage search writes it (or write it by hand)"
        )
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for path in folder.outputs(stage):
                remove(path)
    except OSError as error:
        raise UserError(f"--runs_folder: cannot write {folder.root} ({error.strerror})") from error
    return folder


@contextmanager
def nothing_left_when_refused(folder: RunFolder) -> Iterator[None]:
    """After a UserError in a folder where nothing was begun before and nothing was trained since, takes back what
    was written."""
    before = set(folder.root.iterdir())
    try:
        yield
    except UserError:
        if not any(path.exists() for path in (folder.search, folder.trials, folder.retrain, folder.metrics)):
            for path in (folder.config, folder.root / "wandb", folder.wandb_id, folder.figures):
                if path not in before:
                    remove(path)
        raise
