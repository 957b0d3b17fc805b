"""The stages of a run, each from the files of the one before: search -> ranks.json -> retrain -> adapter -> report."""

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack, nullcontext

from configs.requests import Request
from configs.rules import CHOOSING_RANKS, SEARCHING
from configs.schema import Stage
from engine.answer.again import refuse_other_source, take_over
from engine.answer.settings import refuse_changed_answer
from engine.answer.stage import answer
from engine.disk.files import keep_only
from engine.disk.lock import locked
from engine.export.gguf import refuse_without_gguf
from engine.export.untrained import save_untrained
from engine.report.stage import Beside, write_report
from engine.retrain.choosing import choose_ranks
from engine.retrain.methods import refuse_other_ranks
from engine.retrain.settings import refuse_changed_retraining, refuse_other_weights
from engine.retrain.sources import refuse_own_sources
from engine.retrain.stage import retrain
from engine.retrain.tpe import refuse_without_optuna
from engine.run import opening
from engine.run.contents import read_result
from engine.run.context import Context
from engine.run.entering import again_if_outdated, nothing_left_when_refused, opened
from engine.run.faults import explained
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.run.opening import Asked
from engine.run.ownership import refuse_foreign, refuse_mounted, refuse_occupied
from engine.run.replacing import workplace
from engine.run.resources import forget_peak
from engine.run.same_data import heed_data_of_ranks
from engine.search.settings import refuse_changed_search
from engine.search.stage import search
from engine.tracking import NOWHERE, Tracker, open_tracker
from engine.tracking.wandb_run import refuse_online_without_key
from problems.machine.processes import ALONE, Processes

REFUSALS: tuple[opening.Refusal[RunFolder], ...] = (
    opening.refuse_misplaced,
    opening.refuse_study,
    refuse_foreign,
    refuse_mounted,
    refuse_occupied,
    opening.refuse_search_without_one,
    refuse_own_sources,
    opening.refuse_finished,
    opening.refuse_without_ranks,
    refuse_without_optuna,
    refuse_online_without_key,
)
"""What may keep a run from beginning, in the order in which it is asked of the folder that the command names."""
RESUMING: tuple[opening.Refusal[RunFolder], ...] = (
    refuse_other_source,
    refuse_changed_search,
    refuse_changed_answer,
    refuse_changed_retraining,
    refuse_other_weights,
    refuse_other_ranks,
)
"""What may keep half-done work from going on, asked of the folder in which it lies: with --overwrite another one."""


def run_stages(
    request: Request,
    stop: StopRequest,
    *,
    draw: bool = True,
    beside: Callable[[RunFolder], Beside | None] = lambda folder: None,
    processes: Processes = ALONE,
) -> RunFolder:
    """Runs what the request asks for; unfinished stages resume. Returns the folder with the results.

    `draw` off leaves out the report: the cells of a study are looked at together. `beside` makes the report's block
    about the study that the run is a cell of.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop.
    """
    config = request.config
    asked = Asked(config, RunFolder.of(config), request.stage, request.overwrite)
    block = (lambda: beside(asked.folder)) if draw else None
    with locked(asked.folder.root) if processes.first else nullcontext(), explained(config, workplace(asked).root):
        again_if_outdated(asked, lambda asked: _open_and_run(asked, stop, block, processes))
    return asked.folder


def _open_and_run(
    asked: Asked, stop: StopRequest, beside: Callable[[], Beside | None] | None, processes: Processes
) -> None:
    with ExitStack() as held:
        folder = processes.of_first(lambda: held.enter_context(opened(asked, REFUSALS, RESUMING)))
        with nothing_left_when_refused(folder) if processes.first else nullcontext():
            _run_stages(dataclasses.replace(asked, folder=folder), stop, beside, processes)
        processes.wait()


def _run_stages(
    asked: Asked, stop: StopRequest, beside: Callable[[], Beside | None] | None, processes: Processes
) -> None:
    config, folder, stage = asked.config, asked.folder, asked.stage
    with _tracker(asked) if processes.first else NOWHERE as tracker:
        run = Context(config, stop, processes, folder)
        forget_peak(run.compute)
        if stage != "report":
            refuse_without_gguf(config)
        # A stage whose last file is there is done, whatever came after it.
        no_ranks, no_metrics = processes.of_first(lambda: (not folder.ranks.exists(), not folder.metrics.exists()))
        if stage in ("all", "search") and config.method in SEARCHING and no_ranks:
            _find_ranks(run, tracker)
        processes.wait()
        _export_untrained(run, stage)
        if stage in ("all", "retrain") and no_metrics:
            heed_data_of_ranks(run, stage)
            retrain(run, tracker)
        if processes.first:
            folder.clear_leftovers()
            if beside is not None:
                pictures = write_report(config, folder, beside())
                if asked.overwrite:
                    keep_only(pictures.values(), folder.figures)
                for name, path in pictures.items():
                    tracker.image(f"figures/{name}", path)
            tracker.keep(f"{config.name}-ranks", "ranks", folder.ranks)
            tracker.keep(f"{config.name}-adapter", "model", folder.adapter)
        tracker.finish({key: value for key, value in read_result(folder.metrics).items() if key != "settings"})


def _find_ranks(run: Context, tracker: Tracker) -> None:
    """The ranks by the run's method; a search that is finished is not repeated when its answer was interrupted."""
    if run.config.method in CHOOSING_RANKS:
        choose_ranks(run)
    else:
        if not run.processes.of_first(run.folder.search_summary.exists):
            search(run, tracker) if run.config.answer.from_run is None else take_over(run)
            run.processes.wait()
        run.compute.let_go()
        answer(run, tracker)
    run.compute.let_go()


def _export_untrained(run: Context, stage: Stage) -> None:
    """adapter_untrained/ where it is asked for; a retraining writes it anew, as its ranks may have been edited."""
    if not run.config.export.untrained or run.config.method not in SEARCHING or stage == "report":
        return
    if run.processes.of_first(lambda: stage == "retrain" or not run.folder.untrained_card.exists()):
        save_untrained(run)
    run.processes.wait()


def _tracker(asked: Asked) -> Tracker:
    """The run's tracker, which files it under its method and approximation, by which studies are read; none for a
    report."""
    config = asked.config
    if asked.stage == "report":
        return NOWHERE
    searches = config.method in SEARCHING
    job = f"{config.method}/{config.hypergradient.type}" if searches else config.method
    tags = [config.task.name or config.task.type, config.method, f"seed {config.seed}"]
    tags += [config.hypergradient.type] if searches else []
    return open_tracker(config, asked.folder.root, job=job, tags=tags)
