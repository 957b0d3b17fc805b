"""A study from start to end: its cells, its table and its page."""

import json
import logging
import shlex
from collections.abc import Sequence

from autolora.configs.errors import UserError
from autolora.configs.files import of_folder
from autolora.configs.launch import program
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import keep_only, write_text
from autolora.engine.disk.lock import locked
from autolora.engine.disk.tables import write_parquet
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.manifest import Changed
from autolora.engine.stages import unfinished
from autolora.engine.study.cells import Cell, expand, in_order, refuse_unread
from autolora.engine.study.folder import StudyFolder, print_study
from autolora.engine.study.launch import launch
from autolora.engine.study.report import write_study_report
from autolora.engine.study.results import collect
from autolora.engine.tracking.tracker import begin

log = logging.getLogger("autolora")


def run_study(request: Request, stop: StopRequest) -> StudyFolder:
    """Runs the unfinished cells, writes the report, and prints the table.

    Raises UserError for what the user must change, and after the report if a cell has failed; Interrupted when a
    signal asked to stop.
    """
    config, folder = request.config, StudyFolder.of(request.config)
    if request.stage not in ("all", "report"):
        raise UserError(f"--stage: {request.stage!r} is not allowed for a study; allowed: all, report")
    if RunFolder(folder.root).ranks.exists() or RunFolder(folder.root).metrics.exists():
        raise UserError(f"--name: {folder.root} holds a single run; give the study another name")
    cells = expand(config, folder)
    if request.stage == "all":
        keys = {key for key in request.given if key.startswith(("name", "runs_folder", "study."))}
        refuse_unread("command line", request.given - keys, cells)
    rows = list(dict.fromkeys(cell.row for cell in cells))
    if config.studied.reference not in (None, *rows):
        raise UserError(f"--study.reference: no row is {config.studied.reference!r}; there are: {', '.join(rows)}")
    with locked(folder.root):
        todo = _todo(cells, overwrite=request.overwrite) if request.stage == "all" else []
        if request.stage == "all":
            write_text(folder.config, of_folder(config))
        if request.lists:
            _list(todo, {cell.name for cell in cells} - {cell.name for cell in todo})
            return folder
        failed = launch(todo, config.studied, stop, overwrite=request.overwrite)
        failed += _report(config, folder, cells, sends=request.stage == "all")
    print_study(folder)
    if failed:
        names = ", ".join(line.partition(":")[0] for line in failed)
        raise UserError(f"{len(failed)} of the study's cells failed or are damaged, and the results lack them; the "
                        f"same command tries them again: {names}; the first failure: {failed[0]}")  # fmt: skip
    return folder


def _todo(cells: Sequence[Cell], *, overwrite: bool) -> list[Cell]:
    """The cells that have something left to do and, with `overwrite`, those that were made from something else. Raises
    Changed for such a cell without it."""
    found = []
    for cell in in_order(cells):
        try:
            if not cell.finished or unfinished(cell.placed()):
                found.append(cell)
        except Changed:
            if not overwrite:
                raise
            found.append(cell)
    if len(found) < len(cells):
        log.info("study: %d of %d cells were finished before", len(cells) - len(found), len(cells))
    return found


def _list(todo: Sequence[Cell], finished: set[str]) -> None:
    """Prints the command of each cell to run whose sources are finished, and writes its configuration."""
    for cell in todo:
        if finished.issuperset(cell.needs):
            write_text(cell.folder.config, of_folder(cell.placed()))
            print(f"{program()} --config {shlex.quote(str(cell.folder.config))}")


def _report(config: RunConfig, folder: StudyFolder, cells: Sequence[Cell], *, sends: bool) -> list[str]:
    """Writes the table of the finished cells and draws the report; with `sends`, also to wandb, as a run of its own in
    the group of its cells' runs. Returns a line for each damaged cell."""
    results, damaged = collect(cells)
    if results.empty:
        return damaged
    write_parquet(folder.results, results)
    results, pictures = write_study_report(config, folder)
    keep_only(pictures.values(), folder.figures)
    if sends:
        tracking = config.tracking.model_copy(update={"group": config.tracking.group or config.name})
        with begin(config.model_copy(update={"tracking": tracking}), folder.root, "study", ["study"]) as tracker:
            # A cell of a wandb table may hold a number, a text or null, but no list.
            rows = json.loads(results.to_json(orient="split", double_precision=15))
            data = [[str(value) if isinstance(value, list) else value for value in row] for row in rows["data"]]
            tracker.table("study/results", rows["columns"], data)
            for name, picture in pictures.items():
                tracker.image(f"figures/{name}", picture)
    return damaged
