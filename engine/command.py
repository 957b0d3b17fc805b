"""Carry out what the command line asks for: a run, a study or a verdict; a folder to show, or a
wandb view."""

import dataclasses
import logging
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.launch import processes_started
from autolora.configs.requests import (
    AdapterRequest,
    Command,
    Request,
    ShowRequest,
    Trainer,
    WorkspaceRequest,
)
from autolora.configs.schema import Autolora
from autolora.engine.disk.files import read_json_lines
from autolora.engine.disk.lock import locked
from autolora.engine.interrupt import StopRequest
from autolora.engine.report.summary import print_result
from autolora.engine.stages import run_stages
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.overwrite import OverwriteFolders
from autolora.engine.study.folder import StudyFolder, print_study
from autolora.engine.terminal.console import console
from autolora.engine.terminal.loading import load_libraries
from autolora.problems.machine.processes import joined

log = logging.getLogger("autolora")


def run_request(request: Command, stop: StopRequest) -> None:
    """Runs the request. Raises UserError for what the user must change, Interrupted if a signal
    asked to stop. What takes seconds to import is imported only where it is needed."""
    if isinstance(request, AdapterRequest):
        refuse_several(f"run.py {'cut' if request.cuts else 'measure'}")
        load_libraries()
        from autolora.engine.adapter import run_adapter_request

        run_adapter_request(request, stop)
    elif isinstance(request, ShowRequest):
        show(Path(request.folder), request.trainer)
    elif isinstance(request, WorkspaceRequest):
        from autolora.engine.report.workspace import save_workspace

        save_workspace(Path(request.folder))
    else:
        _train(request, stop)


def _train(request: Request, stop: StopRequest) -> None:
    console.quiet = console.quiet or request.lists  # standard output then has the commands alone
    for note in request.notes:
        log.info("%s", note)
    if request.lists and not request.config.is_study:
        raise UserError("--list: lists the cells of a study, and these settings have no study.axes")
    if request.stage == "report":
        _report(request, stop)
    elif request.stage == "verdict":
        refuse_several("a verdict")
        load_libraries()
        from autolora.engine.verdict.stage import run_verdict

        print_result(run_verdict(request, stop))
    elif request.stage == "probe":
        refuse_several("a probe")
        load_libraries()
        from autolora.engine.probe import run_probe

        print_result(run_probe(request, stop))
    elif request.config.is_study:
        _study(request, stop)
    else:
        _run(request, stop)


def _report(request: Request, stop: StopRequest) -> None:
    """Draws the page of a run or a study again, by the settings of config.yaml in its folder. Of a
    study's command only the keys that change what the report compares, and no cell, are read."""
    folder = RunFolder.of(request.config)
    if not folder.config.exists():
        raise UserError(f"--stage report: {folder.config} does not exist; --stage all writes it")
    compared = (
        {"study.reference": request.config.studied.reference}
        if "study.reference" in request.given
        else {}
    )
    config = load_config(folder.config, compared)
    if config.is_study:
        _study(dataclasses.replace(request, config=config), stop)
    else:
        load_libraries()
        from autolora.engine.report.stage import write_report

        with locked(folder.root):
            write_report(config, folder)
        print_result(folder)


def _study(request: Request, stop: StopRequest) -> None:
    refuse_several("a study")
    load_libraries()
    from autolora.engine.study.stage import run_study

    run_study(request, stop)


def _run(request: Request, stop: StopRequest) -> None:
    config = request.config
    retrains = request.stage in ("all", "retrain")
    if config.searches == "trials" or (retrains and len(config.retrain.rates) > 1):
        refuse_several("trying ranks or learning rates")
    if retrains and config.retrain.gradient_accumulation > 1:
        refuse_several("--retrain.gradient_accumulation above 1")
    with joined(config.device) as processes:
        folder = run_stages(request, stop, processes=processes)
        if processes.first:
            print_result(folder)


def refuse_several(what: str) -> None:
    """Raises UserError if torchrun started several processes for `what`, which needs one."""
    if processes_started() > 1:
        raise UserError(f"torchrun: {what} needs one process; start run.py without torchrun")


def show(root: Path, trainer: Trainer | None = None) -> None:
    """Prints what is in a folder: a run's ranks and result (or how far it is, if unfinished), or a
    study's table.

    With `trainer`: prints instead the lines that make this trainer train at the run's ranks."""
    folder = RunFolder(root)
    study = StudyFolder(root)
    staging = OverwriteFolders.of(root).staging
    is_run = any(path.exists() for path in (folder.ranks, folder.metrics, folder.config))
    if study.cells.is_dir():  # before the runs, as a study has a config.yaml, too
        if trainer is not None:
            raise UserError(
                f"--for: {root} is a study; give the folder of one of its runs, in {study.cells}"
            )
        print_study(study)
    elif is_run and trainer is not None:
        from autolora.engine.export.trainers import lines_for

        print(lines_for(trainer, folder), end="")
    elif is_run:
        print_result(folder)
        if folder.begun and not folder.metrics.exists():
            console.print(_progress(folder))
        if staging.exists():
            console.print(f"new results are half done in {staging}; --overwrite resumes them")
    elif staging.exists():
        show(staging, trainer)
    else:
        raise UserError(
            f"--show: {root} holds no run and no study; give the folder of one, such as "
            "runs/quickstart"
        )


def _progress(folder: RunFolder) -> str:
    """How far an unfinished run is, from its files, which another process may be writing."""
    config = load_config(folder.config)
    lines = read_json_lines(folder.search_metrics)
    if not isinstance(config, Autolora) or folder.search_summary.exists():
        return "half done: the training is not finished; the same command resumes it"
    if not lines:
        return "half done: no step of the search is logged yet; the same command resumes it"
    last = lines[-1]
    numbers = (("L_tr", "train_loss", 3), ("L_val", "val_loss", 3), ("mean rank", "mean_rank", 2))
    told = [
        f"{what} {last[key]:z.{digits}f}"
        for what, key, digits in numbers
        if last.get(key) is not None
    ]
    return "   ".join([f"search: step {last['step']:,} of {config.search.steps:,}", *told])
