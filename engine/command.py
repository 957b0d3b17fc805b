"""Carry out what the command line asks for: a run, a study or a verdict; a folder to show, or a wandb view."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.launch import processes_started
from autolora.configs.layers import flat
from autolora.configs.requests import (
    AdapterRequest,
    Command,
    Request,
    ShowRequest,
    Trainer,
    WorkspaceRequest,
)
from autolora.engine.progress import print_progress
from autolora.engine.report.summary import print_result, print_verdict
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.opening import Places, settle_if_free
from autolora.engine.stages import run_stages
from autolora.engine.study.folder import StudyFolder, print_study
from autolora.engine.terminal.console import console
from autolora.engine.terminal.loading import load_libraries
from autolora.problems.machine.processes import joined

log = logging.getLogger("autolora")

# --stage report takes its settings from config.yaml in the run's folder. Only these keys come from the command:
# - _OF_THE_MACHINE, for a run: its report must fit this machine (a study's report keeps those of its config.yaml);
# - _OF_THE_REPORT: they say where the folder is;
# - _COMPARED, if given for a study: they change what its report compares, and no cell;
# - the section tracking, unless tracking.wandb is auto.
_OF_THE_MACHINE = ("device", "precision")
_OF_THE_REPORT = ("name", "runs_folder")
_COMPARED = ("study.reference", "study.results")


def run_request(request: Command, stop: StopRequest) -> None:
    """Runs the request. Raises UserError for what the user must change, Interrupted if a signal asked to stop."""
    if isinstance(request, AdapterRequest):
        refuse_several(f"run.py {'cut' if request.cuts else 'measure'}", "start run.py without torchrun")
        load_libraries()
        from autolora.engine.adapter import run_adapter_request  # only now: its imports take seconds

        run_adapter_request(request, stop)
    elif isinstance(request, ShowRequest):
        show(Path(request.folder), request.trainer)
    elif isinstance(request, WorkspaceRequest):
        from autolora.engine.report.workspace import save_workspace

        save_workspace(Path(request.folder))
    else:
        _train(_as_it_ran(request) if request.stage == "report" else request, stop)


def _train(request: Request, stop: StopRequest) -> None:
    console.quiet = console.quiet or request.lists  # standard output then has the commands alone
    for note in request.notes:
        log.info("%s", note)
    if request.lists and not request.config.is_study:
        raise UserError("--list: lists the cells of a study, and these settings have no study.axes")
    if request.stage == "verdict":
        _judge(request, stop)
    elif request.stage == "probe":
        refuse_several("a probe", "start run.py without torchrun")
        load_libraries()
        from autolora.engine.probe import run_probe  # only now: its imports take seconds

        print_result(run_probe(request, stop))
    elif request.config.is_study:
        refuse_several("a study", "start run.py without torchrun; --study.launcher ray runs several cells at a time")
        load_libraries()
        from autolora.engine.study.stage import run_study  # only now: its imports take seconds

        run_study(request, stop)
    else:
        _run(request, stop)


def _as_it_ran(request: Request) -> Request:
    """The request, with the settings of config.yaml in the run's folder instead of those of the command.

    A report describes the run as it was trained, even if the command gives other settings.

    Raises UserError if config.yaml is missing or broken.
    """
    path = RunFolder.of(request.config).config
    settle_if_free(path.parent)
    if not path.exists():
        raise UserError(f"--stage report: {path} does not exist, but a report needs it; --stage all writes it")
    # The report of a run that used a GPU can be drawn without it.
    ran = load_config(path, {name: getattr(request.config, name) for name in _OF_THE_MACHINE})
    if ran.is_study:
        # A study's report computes nothing, but compares all settings of its cells, also those of the machine.
        asked = flat(request.config.model_dump())
        ran = load_config(path, {key: asked[key] for key in _COMPARED if key in request.given})
    kept: dict[str, Any] = {name: getattr(request.config, name) for name in _OF_THE_REPORT}
    if request.config.tracking.wandb != "auto":  # auto, the default, does not override the file
        kept["tracking"] = request.config.tracking
    config = ran.model_copy(update=kept)
    now, then = flat(request.config.model_dump()), flat(config.model_dump())
    if other := [f"--{key}" for key in sorted(request.given) if now.get(key) != then.get(key)]:
        log.warning("--stage report does not read %s: it takes these settings from %s", ", ".join(other), path)
    return dataclasses.replace(request, config=config)


def _judge(request: Request, stop: StopRequest) -> None:
    config = request.config
    if config.is_study:
        raise UserError("--stage: 'verdict' is not allowed for a study; allowed: the folder of one run")
    refuse_several("a verdict", "start run.py without torchrun; --study.launcher ray runs several trainings at a time")
    load_libraries()
    from autolora.engine.verdict.stage import run_verdict  # only now: its imports take seconds

    print_verdict(run_verdict(request, stop))


def _run(request: Request, stop: StopRequest) -> None:
    config = request.config
    retrains = request.stage in ("all", "retrain")
    if request.stage != "report" and (config.searches == "trials" or (retrains and len(config.retrain.rates) > 1)):
        refuse_several("trying ranks or learning rates", "start run.py without torchrun")
    if retrains and config.retrain.gradient_accumulation > 1:
        refuse_several(
            "--retrain.gradient_accumulation", "set it to 1: the processes share a batch, so each has fewer rows"
        )
    with joined(config.device) as processes:
        folder = run_stages(request, stop, processes=processes)
        if processes.first:
            print_result(folder)


def refuse_several(what: str, instead: str) -> None:
    """Raises UserError if torchrun started several processes for `what`, which needs one; `instead`: what to do."""
    if processes_started() > 1:
        raise UserError(f"torchrun: {what} needs one process; {instead}")


def show(root: Path, trainer: Trainer | None = None) -> None:
    """Prints what is in a folder: a run's ranks and result (or its progress, if unfinished), or a study's table.

    With `trainer`: prints instead the lines that make this trainer train at the run's ranks."""
    folder = RunFolder(root)
    settle_if_free(root)
    study, told = StudyFolder(root), (folder.ranks, folder.metrics, folder.config)
    is_run = any(path.exists() for path in told)
    if trainer is not None and study.cells.is_dir():  # before the runs, as a study has a config.yaml, too
        raise UserError(f"--for: {root} is a study; give the folder of one of its runs, in {study.cells}")
    if trainer is not None and is_run:
        from autolora.engine.export.trainers import lines_for

        print(lines_for(trainer, folder), end="")
    elif study.cells.is_dir():
        print_study(study)
    elif is_run:
        print_result(folder)
        if not folder.metrics.exists():
            print_progress(folder)
        _tell_growing(folder.at(Places.of(root).growing))
    elif (growing := Places.of(root).growing).is_dir():
        console.print(
            f"the run was begun with --overwrite; its new results are in {growing}", highlight=False, soft_wrap=True
        )
        show(growing, trainer)
    else:
        raise UserError(f"--show: {root} holds no run and no study; give the folder of one, such as runs/quickstart")


def _tell_growing(growing: RunFolder) -> None:
    """Prints where new results are that will replace those of a folder once they are complete, if there are any."""
    if growing.begun:
        line = f"new results are half done in {growing.root}; --overwrite resumes them, and they then replace these"
        console.print(line, highlight=False, soft_wrap=True)
