"""May this run start, resume or overwrite? All refusals are asked here, before anything is cleared or slow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from configs.errors import UserError
from configs.rules import SEARCHING
from configs.schema import RunConfig, Stage
from engine.disk.files import remove
from engine.disk.paths import misplaced
from engine.run.folder import RunFolder


class Folder(Protocol):
    """The folder of a run or of a study."""

    @property
    def root(self) -> Path:
        """The folder itself."""

    def outputs(self, stage: Stage) -> list[Path]:
        """What --overwrite clears before the stage begins."""


F = TypeVar("F", bound=Folder)


@dataclass(frozen=True)
class AskedOf(Generic[F]):
    """What a command asks of a folder."""

    config: RunConfig
    folder: F
    stage: Stage = "all"
    overwrite: bool = False

    def stands(self, path: Path) -> bool:
        """Whether a path of the folder exists and --overwrite will not clear it."""
        cleared = self.folder.outputs(self.stage) if self.overwrite else []
        return (path.exists() or path.is_symlink()) and not any(path.is_relative_to(output) for output in cleared)


Asked = AskedOf[RunFolder]
"""What a command asks of the folder of a run."""
Refusal = Callable[[AskedOf[F]], None]
"""Raises UserError when the command may not begin."""


def open_folder(asked: AskedOf[F], refusals: Sequence[Refusal[F]]) -> F:
    """Asks `refusals` in their order; then makes the folder and clears what --overwrite replaces.

    Raises UserError when one refuses, or when the folder cannot be written.
    """
    for refuse in refusals:
        refuse(asked)
    folder = asked.folder
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        for path in folder.outputs(asked.stage) if asked.overwrite else ():
            remove(path)
    except OSError as error:
        raise UserError(f"--runs_folder: cannot write {folder.root} ({error.strerror})") from error
    return folder


def refuse_misplaced(asked: AskedOf[F]) -> None:
    """Refuses a folder in which a file lies where the program keeps a folder, or the other way round."""
    for path, kind in misplaced(asked.folder):
        if asked.stands(path):
            raise UserError(
                f"{path}: a {kind} belongs there, and something else has its name; move it, or give another --name"
            )


def refuse_study(asked: Asked) -> None:
    """Refuses a single run in a study's folder, even with --overwrite, which would clear the study's files."""
    root = asked.folder.root
    if any((root / name).exists() for name in ("cells", "results.parquet")):
        raise UserError(f"--name: {root} holds a study; name the run otherwise")


def refuse_search_without_one(asked: Asked) -> None:
    """Refuses --stage search for a method that searches nothing."""
    if asked.stage == "search" and asked.config.method not in SEARCHING:
        raise UserError(
            f"--stage: 'search' is not allowed for --method {asked.config.method}, which has none; allowed: all, "
            f"retrain"
        )


def refuse_finished(asked: Asked) -> None:
    """Refuses a stage that is finished and whose report is drawn, unless --overwrite is given."""
    folder = asked.folder
    finished = {"all": folder.metrics, "retrain": folder.metrics, "search": folder.ranks}.get(asked.stage)
    if finished is not None and asked.stands(finished) and asked.stands(folder.report):
        raise UserError(
            f"--name: {folder.root} already holds a finished run; --overwrite replaces it, --name starts another, "
            f"--stage report only draws it again"
        )


def refuse_without_ranks(asked: Asked) -> None:
    """Refuses a stage that reads files which no earlier stage has written."""
    folder, stage, searches = asked.folder, asked.stage, asked.config.method in SEARCHING
    if stage == "report" and not searches and not folder.metrics.exists():
        raise UserError(f"--stage report: {folder.metrics} does not exist; --stage all writes it")
    if stage in ("retrain", "report") and searches and not folder.ranks.exists():
        raise UserError(
            f"--stage {stage}: {folder.ranks} does not exist; --stage search writes it (or write it by hand)"
        )


@contextmanager
def nothing_left_when_refused(folder: RunFolder) -> Iterator[None]:
    """If the body raises UserError before any training has begun in the folder, deletes what the body wrote."""
    before = set(folder.root.iterdir())
    try:
        yield
    except UserError:
        if not any(path.exists() for path in (folder.search, folder.trials, folder.retrain, folder.metrics)):
            for path in (folder.config, folder.root / "wandb", folder.wandb_id, folder.figures):
                if path not in before:
                    remove(path)
        raise
