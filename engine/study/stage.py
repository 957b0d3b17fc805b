"""A study from start to end: its checks, its cells, its comparison, its tables and figures."""

import logging
import os
import shlex
from collections.abc import Sequence

from autolora.configs.errors import UserError
from autolora.configs.files import of_folder
from autolora.configs.launch import program
from autolora.configs.layers import flat, given
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import keep_only, write_text
from autolora.engine.disk.lock import locked
from autolora.engine.disk.tables import write_parquet
from autolora.engine.retrain.settings import FINISHED
from autolora.engine.run.contents import read_result
from autolora.engine.run.faults import explained
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.opening import Places
from autolora.engine.run.resuming import Outdated
from autolora.engine.study.cells import Cell, expand, in_order
from autolora.engine.study.comparison import data_of_probe, refuse_changed_probe, run_probe
from autolora.engine.study.folder import AskedOfStudy, StudyFolder, print_study
from autolora.engine.study.launch import launch
from autolora.engine.study.mixed import refuse_mixed, refuse_old_ranks
from autolora.engine.study.report import write_study_report
from autolora.engine.study.results import collect
from autolora.engine.study.tracking import track_study

log = logging.getLogger("autolora")


def run_study(request: Request, stop: StopRequest) -> StudyFolder:
    """Runs the unfinished cells and the comparison, writes the report, and prints the table.

    Raises UserError for what the user must change, and after the report if a cell has failed; Interrupted when a
    signal asked to stop.
    """
    config, folder = request.config, StudyFolder.of(request.config)
    if request.stage not in ("all", "report"):
        raise UserError(f"--stage: {request.stage!r} is not allowed for a study; allowed: all, report")
    if RunFolder(folder.root).metrics.exists() or RunFolder(folder.root).ranks.exists():
        raise UserError(f"--name: {folder.root} holds a single run; give the study another name")
    cells = expand(config, folder)
    if request.stage == "all":
        _refuse_unread(request, cells)
    if config.studied.reference not in (None, *(cell.row for cell in cells)):
        rows = ", ".join(dict.fromkeys(cell.row for cell in cells))
        raise UserError(f"--study.reference: no row is named {config.studied.reference!r}; there are: {rows}")
    with locked(folder.root), explained(folder.root):
        todo = _open(config, folder, cells, overwrite=request.overwrite) if request.stage == "all" else []
        if request.lists:
            _list(folder, todo, [cell for cell in cells if cell.finished])
            return folder
        failed = launch(todo, config.studied, stop, overwrite=request.overwrite) if todo else []
        if todo:  # the data or the base model may have changed while they ran
            _refuse_changed(config, folder, cells)
            for cell in cells:  # or another learning rate may have been chosen for all
                _refuse_other_settings(cell)
        failed += _report(request, folder, cells, stop, failed)
    print_study(folder)
    if failed:
        raise UserError(
            f"{len(failed)} of the study's cells failed or are damaged, and the results lack them; the same command "
            f"tries those that failed again: {', '.join(line.partition(':')[0] for line in failed)}; the first "
            f"failure: {failed[0]}"
        )
    return folder


def _refuse_unread(request: Request, cells: Sequence[Cell]) -> None:
    """Refuses a key of the command line that an axis overrides, or that no cell has."""
    if beside := [key for key in request.given if key in request.config.studied.axes]:
        raise UserError(f"--{beside[0]}: study.axes has its values; change them there")
    left = {key for key in request.given if key not in ("name", "runs_folder") and not key.startswith("study.")}
    for cell in cells if left else ():
        left = left - flat(cell.config.model_dump()).keys()
    if left:
        raise UserError(f"--{min(left)}: no cell of the study has this key")
    had = {key for cell in cells for key in flat(given(cell.config))}
    if others := sorted(request.config.studied.others.keys() - had):
        log.info("no cell of the study has %s", ", ".join(others))


def _open(config: RunConfig, folder: StudyFolder, cells: Sequence[Cell], *, overwrite: bool) -> list[Cell]:
    """The cells to run: the unfinished ones and, with `overwrite`, those that were finished under other settings."""
    changed = []
    for cell in cells:
        try:
            _refuse_other_settings(cell)
        except UserError:
            if not overwrite:
                raise
            changed.append(cell)
    kept = [cell for cell in cells if cell not in changed]
    try:
        refuse_changed_probe(AskedOfStudy(config, folder))
    except Outdated:
        if not overwrite:
            raise
        os.rename(folder.probe, Places(folder.probe).free)
    _refuse_changed(config, folder, kept)
    write_text(folder.config, of_folder(config))
    todo = [cell for cell in in_order(cells) if cell in changed or not cell.finished]
    if todo and len(todo) < len(cells):
        log.info("study: %d of %d cells were finished before", len(cells) - len(todo), len(cells))
    return todo


def _refuse_other_settings(cell: Cell) -> None:
    """Raises Outdated for a cell that was finished under other settings."""
    if cell.finished:
        way_out = f"give the old value, or --overwrite, or remove {cell.folder.root} to train this cell again"
        recorded = read_result(cell.folder.metrics)["settings"]
        FINISHED.refuse_changed(recorded, cell.placed(), f"{cell.folder.root} was finished with", way_out)


def _refuse_changed(config: RunConfig, folder: StudyFolder, cells: Sequence[Cell]) -> None:
    """Refuses to compare finished cells that were made from other data, weights or ranks."""
    refuse_mixed(cells, (folder.probe, config, data_of_probe(folder)))
    refuse_old_ranks(cells)


def _list(folder: StudyFolder, todo: Sequence[Cell], finished: Sequence[Cell]) -> None:
    """Prints the command of each cell to run whose sources are finished, and writes its configuration."""
    ready = {cell.name for cell in finished} - {cell.name for cell in todo}
    for cell in todo:
        if ready.issuperset(cell.needs):
            write_text(cell.folder.config, of_folder(cell.placed()))
            print(f"{program()} --config {shlex.quote(str(cell.folder.config))}")


def _report(
    request: Request, folder: StudyFolder, cells: Sequence[Cell], stop: StopRequest, failed: Sequence[str]
) -> list[str]:
    """Writes the table of the finished cells, makes the comparison, and draws the report. Returns a line for each
    damaged cell."""
    config = request.config
    results, damaged = collect(cells)
    for line in damaged:
        log.warning("the results leave out a damaged cell: %s", line)
    if results.empty:
        raise UserError(f"no cell of the study finished; the first failure: {[*failed, *damaged, 'none was run'][0]}")
    write_parquet(folder.results, results)
    if request.stage == "all" and config.studied.probe:
        write_study_report(config, folder)  # the comparison takes long, and may be stopped
        run_probe(config, folder, stop)
    pictures = write_study_report(config, folder)
    keep_only(pictures.values(), folder.figures)
    if request.stage != "report":
        track_study(config, folder, pictures)
    return damaged
