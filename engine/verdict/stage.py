"""--stage verdict: train pairs up to the next look of the test, until a look decides or the time is
over."""

import dataclasses
import logging
import time

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import Searching
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, remove
from autolora.engine.disk.lock import locked
from autolora.engine.interrupt import StopRequest
from autolora.engine.recipe import read
from autolora.engine.report.stage import write_report
from autolora.engine.run.program import commit
from autolora.engine.session import open_store
from autolora.engine.stages import run_stages
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Changed, Stage, forget
from autolora.engine.store.overwrite import put_aside
from autolora.engine.study.launch import launch
from autolora.engine.tracking import tracker_of
from autolora.engine.verdict.arms import LEARNED, Arms, arms_of
from autolora.engine.verdict.judge import first_ending
from autolora.engine.verdict.record import shown, write_verdict

log = logging.getLogger("autolora")


def run_verdict(request: Request, stop: StopRequest) -> RunFolder:
    """Trains the pairs that are still needed, judges them, and writes verdict.json and the report;
    searches first where the run has no ranks yet. Returns the run's folder.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop; the
    same command resumes.
    """
    config = request.config
    folder = RunFolder.of(request.config)
    if not isinstance(config, Searching):
        raise UserError(
            f"--stage: 'verdict' is not allowed for --method {config.method}, whose ranks no "
            "search has found; allowed: a run of method autolora, lora_grid or optuna"
        )
    if not folder.ranks.exists():
        run_stages(dataclasses.replace(request, stage="search", overwrite=False), stop, draw=False)
    with locked(folder.root):
        arms = arms_of(config, folder)
        _begin(arms, stop, overwrite=request.overwrite)
        _train(arms, stop)
        write_verdict(shown(arms), arms)
        pictures = write_report(config, folder)
        told = read_json(folder.verdict_summary)
        with tracker_of(config, folder.root) as tracker:  # into the run whose ranks are judged
            tracker.image("figures/verdict", pictures["verdict"])
            tracker.finish(
                {
                    f"verdict/{key}": value
                    for key, value in told.items()
                    if isinstance(value, str | float)
                }
            )
    return folder


def _begin(arms: Arms, stop: StopRequest, *, overwrite: bool) -> None:
    """Checks that earlier pairs belong to this verdict, and keeps the ranks at which all its pairs
    are trained.

    Raises Changed when earlier pairs were trained otherwise; with `overwrite` they are put aside as
    verdict.old-N. Raises UserError for other rows than those of the search: rows that judge would
    else be rows that were trained on.
    """
    config = arms.config
    folder = arms.folder
    searched = Stage.of("grid" if config.searches == "trials" else "search", config, folder)
    layers = {
        key: value for key, value in searched.settings.items() if key == "lora.target_modules"
    }
    searched = dataclasses.replace(searched, settings=layers, foreign="name")
    searched.check_settings()
    of_pairs = arms.pair(1)[LEARNED].config
    rows = open_store(of_pairs, folder, [searched], stop)
    read(of_pairs, rows)
    verdict = Stage.of("verdict", config, folder)
    known = {"k": arms.record.k, **arms.record.kept}
    try:
        verdict.check_settings()
        for name, value in ({"ranks": known} | rows.known).items():
            verdict.check_input(name, value, f"of {folder.root}")
    except Changed:
        if not overwrite:
            raise
        for path in (folder.verdict, folder.verdict_summary):
            put_aside(path, path)
        verdict = dataclasses.replace(verdict, recorded=None)
    if verdict.recorded is None:
        folder.verdict.mkdir(parents=True, exist_ok=True)
        ranks.save(arms.record, arms.ranks)
        verdict.begin({"ranks": known} | rows.known, {}, {"commit": commit()}, {})


def _train(arms: Arms, stop: StopRequest) -> None:
    """Trains pair after pair, and with the first the head alone, without which no pair tells
    anything: up to the first look that decides or that finds that LoRA gains nothing, or until the
    time is over. Raises UserError when a training fails."""
    until = time.monotonic() + 60 * arms.config.verdict.minutes
    for number in range(1, max(arms.plan) + 1):
        cells = list(arms.pair(number).values())
        if number == 1:
            cells += arms.heads()
        todo = [cell for cell in cells if not cell.finished]
        failed = launch(todo, arms.config.studied, stop)
        for cell in cells:
            if cell.finished:  # of a training only the numbers are kept
                remove(cell.folder.adapter)
                forget(cell.folder, "retrain", cell.folder.adapter)
        if failed:
            raise UserError(
                "a training of the verdict failed, and the same command tries it again: "
                f"{failed[0]}"
            )
        if number in arms.plan:
            pairs = shown(arms).pairs
            log.info("after pair %d: mean difference %+.4f nats", number, pairs(number).mean)
            if first_ending(arms.plan, number, pairs) or pairs(number).worthless:
                return
        if todo and time.monotonic() > until:
            return
