"""Run the cells of a study, skipping those that are finished."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.configs.files import load_config, to_yaml
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import remove, write_text
from autolora.engine.retrain.settings import FINISHED
from autolora.engine.run.asked import AskedOf
from autolora.engine.run.contents import read_result
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.resuming import Outdated
from autolora.engine.study.between import reads, with_chosen_rate
from autolora.engine.study.cells import Cell, damage
from autolora.engine.study.folder import AskedOfStudy, StudyFolder
from autolora.engine.study.launchers import LAUNCHERS, Job, Running
from autolora.engine.study.mixed import alike, refuse_mixed, refuse_old_ranks
from autolora.engine.terminal.console import told_once

log = logging.getLogger("autolora")


@told_once()
def run_cells(request: Request, folder: StudyFolder, cells: list[Cell], stop: StopRequest) -> list[str]:
    """Runs the unfinished cells in `folder`. A failed cell does not stop the others.

    Returns one line for each failed cell. Raises UserError for what the user must change, Interrupted when a signal
    asked to stop.
    """
    config = request.config
    _tell_other_exports(request, cells)
    running = Running(_jobs(request, folder, cells), config.studied.on.retries)
    if not running.total:  # all cells are finished; their own config.yaml say how each was trained
        write_text(folder.config, to_yaml(config))
        return []
    if done := len(cells) - running.total:
        log.info("study: %d of %d cells were finished before; the others are counted from 1", done, len(cells))
    with _config_of_what_ran(config, folder):
        failed = LAUNCHERS[config.studied.launcher].run(running, config.studied, stop)
    for line in failed:
        log.warning("failed: %s", line)
    # The data or the base model may have changed while the last cells ran.
    try:
        refuse_changed_cells(AskedOf(config, folder), cells)
    except Outdated as error:  # --overwrite would otherwise set all finished cells aside and train them again
        raise UserError(str(error)) from error
    return failed


@contextmanager
def _config_of_what_ran(config: RunConfig, folder: StudyFolder) -> Iterator[None]:
    """Writes `config` to config.yaml; restores the earlier file if no cell begins to train inside the `with` block."""
    before = folder.config.read_text(encoding="utf-8") if folder.config.exists() else None
    begun = _begun(folder)
    write_text(folder.config, to_yaml(config))
    try:
        yield
    finally:
        if _begun(folder) == begun:
            remove(folder.config) if before is None else write_text(folder.config, before)


def _begun(folder: StudyFolder) -> set[tuple[Path, int]]:
    """The config.yaml of each cell that has begun to train, and when it was last written: a cell writes it each time
    that it begins or resumes."""
    return {(path, path.stat().st_mtime_ns) for path in folder.cells_begun}


def refuse_changed_cells(asked: AskedOfStudy, cells: Sequence[Cell]) -> None:
    """Refuses to keep finished cells in the study's folder that were made under other settings, from other data or
    weights, or at ranks that their source no longer has."""
    for cell in cells:
        run = cell.folder
        if run.metrics.exists() and not damage(cell):
            recorded, placed = read_result(run.metrics)["settings"], _placed(asked.config, cell, cells)
            way_out = f"give the old value, or remove {run.root} to train this cell again"
            FINISHED.refuse_changed(recorded, placed, f"{run.root} was finished with", way_out)
    refuse_mixed(asked, cells)
    refuse_old_ranks(cells)


def _tell_other_exports(request: Request, cells: Sequence[Cell]) -> None:
    """Warns of keys of export on the command line with which finished cells were not trained."""
    for key in sorted(key for key in request.given if key.startswith("export.")):
        name = key.removeprefix("export.")
        finished = [cell for cell in cells if cell.folder.metrics.exists() and cell.folder.config.exists()]
        lack = [cell for cell in finished if _export(cell.config, name) != _export(_trained(cell), name)]
        if lack:
            log.warning(
                "--%s: %d of the finished cells were trained with another value and stay as they are; to train one "
                "of them again, remove its folder, such as %s", key, len(lack), lack[0].folder.root,
            )  # fmt: skip


def _export(config: RunConfig, name: str) -> object:
    return getattr(getattr(config, "export", None), name, None)


def _trained(cell: Cell) -> RunConfig:
    """The configuration with which a cell was trained."""
    return load_config(cell.folder.config)


def refuse_launcher(asked: AskedOfStudy, cells: Sequence[Cell]) -> None:
    """Refuses a launcher that cannot start the cells."""
    if asked.stage != "report" and not all(cell.folder.metrics.exists() for cell in cells):
        LAUNCHERS[asked.config.studied.launcher].check(asked.config.studied)


def _jobs(request: Request, folder: StudyFolder, cells: Sequence[Cell]) -> list[Job]:
    """One job for every unfinished cell; each comes after the jobs whose files it reads. With --overwrite a half-done
    cell that cannot be resumed is trained anew."""
    config = request.config

    def job(cell: Cell) -> Job:
        after = {str(other.config.name) for other in reads(cell, cells, sweep_once=config.studied.sweep_once)}

        def begins() -> Request:
            refuse_mixed(AskedOf(config, folder), cells)  # not only after the last cell, which may be days later
            return Request(_placed(config, cell, cells), "all", False, request.source, alike=alike(cell, cells))

        anew = (lambda: replace(begins(), overwrite=True)) if request.overwrite else None
        return Job(str(cell.config.name), begins, frozenset(after), cell.folder, anew)

    return [job(cell) for cell in cells if not cell.folder.metrics.exists()]


def _placed(config: RunConfig, cell: Cell, cells: Sequence[Cell]) -> RunConfig:
    """The configuration of a cell; under study.sweep_once at the learning rate that the cell of one seed chose."""
    return (with_chosen_rate(cell, cells) if config.studied.sweep_once else cell).config
