"""A study from start to end: its checks, its cells, its comparison, its tables and figures."""

import functools
import logging
import os
from collections.abc import Sequence

import yaml

from autolora.configs.count_words import counted
from autolora.configs.errors import UserError
from autolora.configs.files import to_text
from autolora.configs.layers import flat, given
from autolora.configs.requests import Request
from autolora.engine.disk.files import keep_only, write_text
from autolora.engine.disk.lock import locked
from autolora.engine.retrain.sources import refuse_sources_in
from autolora.engine.retrain.tpe import refuse_missing_optuna
from autolora.engine.run.asked import AskedOf
from autolora.engine.run.faults import explained
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.opening import again_if_outdated, opened
from autolora.engine.run.ownership import refuse_foreign, refuse_mounted, refuse_occupied
from autolora.engine.run.refusals import refuse_misplaced
from autolora.engine.run.replacing import workplace
from autolora.engine.study.cells import Cell, expand, tell_unknown_values
from autolora.engine.study.comparison import refuse_changed_probe, run_probe
from autolora.engine.study.folder import AskedOfStudy, StudyFolder, print_study, refuse_single_run
from autolora.engine.study.own_hypergradients import own_hypergradients
from autolora.engine.study.report import reference_cells, write_study_report
from autolora.engine.study.results import finished, write_results
from autolora.engine.study.run import refuse_changed_cells, refuse_launcher, run_cells
from autolora.engine.study.sources import refuse_missing_sources
from autolora.engine.study.tracking import track_study
from autolora.engine.tracking.login import wandb_mode
from autolora.problems.hypergradients import approximation

log = logging.getLogger("autolora")


def run_study(request: Request, stop: StopRequest) -> StudyFolder:
    """Runs the unfinished cells and the comparison, writes the report, and prints the table.

    Raises UserError for what the user must change, and after the report if a cell has failed; Interrupted when a
    signal asked to stop.
    """
    config = request.config
    if request.stage not in ("all", "report"):
        raise UserError(f"--stage: {request.stage!r} is not allowed for a study; allowed: all, report")
    asked = AskedOf(config, StudyFolder.of(config), request.stage, request.overwrite)
    cells = expand(config, workplace(asked))
    _check_settings(request, workplace(asked), cells)
    refusals = (
        refuse_misplaced, refuse_single_run, refuse_foreign, refuse_mounted, refuse_occupied,
        _refuse_without_key, functools.partial(_refuse_own_sources, cells=cells),
        functools.partial(refuse_launcher, cells=cells), functools.partial(_refuse_without_packages, cells=cells),
    )  # fmt: skip
    resuming = functools.partial(refuse_changed_cells, cells=cells), refuse_changed_probe

    def work(asked: AskedOfStudy) -> None:
        with opened(asked, refusals, resuming) as folder:
            _tell_removed(asked, cells)
            _run(request, folder, stop)
            if folder != asked.folder:
                _place(folder, asked.folder)

    with locked(asked.folder.root), explained(workplace(asked).root):
        again_if_outdated(asked, work)
    print_study(asked.folder)
    return asked.folder


def _check_settings(request: Request, folder: StudyFolder, cells: Sequence[Cell]) -> None:
    """Raises UserError for a reference that is no row, for keys that no cell reads, for cells that read from a cell
    that the study lacks, and for a class of the user's own that cannot be made; warns of what has no effect."""
    config, study = request.config, request.config.studied
    tell_unknown_values(study)
    reference_cells(study, cells)
    if request.stage != "report":
        _refuse_unread(request, cells)
        refuse_missing_sources(folder, cells)
        searches = [cell.config for cell in cells] + ([config] if study.probe else [])
        for chosen in own_hypergradients(searches).values():
            approximation(chosen)


def _refuse_unread(request: Request, cells: Sequence[Cell]) -> None:
    """Refuses a key of the command line that no cell has, nor the study itself."""
    if beside := [key for key in request.given if key in request.config.studied.axes]:
        raise UserError(f"--{beside[0]}: study.axes has its values; change them there")
    of_study = {key for key in request.given if key in ("name", "runs_folder") or key.startswith("study.")}
    left = request.given - of_study
    for cell in cells if left else ():
        left = left - flat(cell.config.model_dump()).keys()
    if left:
        raise UserError(f"--{min(left)}: no cell of the study has this key")
    had = {key for cell in cells for key in flat(given(cell.config))}
    if others := sorted(request.config.studied.others.keys() - had):
        log.info("no cell of the study has %s", ", ".join(others))


def _run(request: Request, folder: StudyFolder, stop: StopRequest) -> None:
    config = request.config
    cells = expand(config, folder)
    failed = []
    if request.stage == "all":
        failed = run_cells(request, folder, cells, stop)
    intact, damaged = finished(cells)
    for line in damaged:
        log.warning("the results leave out a damaged cell: %s", line)
    failed += damaged
    if not intact:
        raise UserError(f"no cell of the study finished; the first failure: {(failed or ['none was run'])[0]}")
    write_results(folder, intact)
    if request.stage == "all" and config.studied.probe:
        write_study_report(config, folder)  # the comparison takes long, and may be stopped
        run_probe(config, folder, stop)
    pictures = write_study_report(config, folder)
    if request.overwrite:
        keep_only(pictures.values(), folder.figures)
    if request.stage != "report":
        track_study(config, folder, pictures)
    if failed:
        print_study(folder)
        final = StudyFolder.of(config)
        stays = f", and {final.root} is not touched until all have finished" if folder != final else ""
        raise UserError(
            f"{len(failed)} of the study's cells failed or are damaged, and the results lack them; the same command "
            f"tries those that failed again{stays}; the first failure: {failed[0]}"
        )


def _tell_removed(asked: AskedOfStudy, cells: Sequence[Cell]) -> None:
    """Warns of finished cells that an overwrite will remove, as the study has no such cells any more."""
    names = {cell.folder.root.name for cell in cells}
    begun = (RunFolder(path.parent) for path in asked.folder.cells_begun)
    gone = sorted(run.root.name for run in begun if run.metrics.exists() and run.root.name not in names)
    if gone and asked.replaces and asked.stage == "all":
        log.warning(
            "--overwrite: %s of %s will be removed once the new results are complete, as the study has no such cells "
            "now: %s", counted(len(gone), "finished cell"), asked.folder.root, ", ".join(gone),
        )  # fmt: skip


def _place(growing: StudyFolder, final: StudyFolder) -> None:
    """Sets runs_folder in each cell's config.yaml to the final folder, to which the cell will be moved."""
    for path in sorted(growing.cells_begun):
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) | {"runs_folder": str(final.cells)}
        write_text(path, to_text(settings))


def _refuse_without_key(asked: AskedOfStudy) -> None:
    """Refuses a study that is to be sent to wandb when there is no API key, or as the trial of a sweep: wandb gives
    all runs of a trial one id, so that the curves of all cells would be mixed."""
    if asked.stage != "report" and wandb_mode(asked.config) == "online" and os.environ.get("WANDB_SWEEP_ID"):
        raise UserError(
            "--study: a study cannot be a trial of a wandb sweep, which has one run for each trial; give "
            "--tracking.wandb disabled, or run the study by itself"
        )


def _refuse_without_packages(asked: AskedOfStudy, cells: Sequence[Cell]) -> None:
    """Refuses a study with an unfinished cell whose method needs a package that is not installed."""
    for cell in cells if asked.stage == "all" else ():
        if asked.replaces or not cell.folder.metrics.exists():
            refuse_missing_optuna(cell.config)


def _refuse_own_sources(asked: AskedOfStudy, cells: Sequence[Cell]) -> None:
    """Refuses --overwrite if a cell reads a file that --overwrite would replace. A path with {runs} is allowed, as it
    leads to a cell of the new results."""
    for cell in cells if asked.replaces else ():
        refuse_sources_in(asked.folder.outputs(), cell.config)
