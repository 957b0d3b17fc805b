"""--stage verdict: train pairs up to the next look of the test, until a look decides or the time is over."""

import dataclasses
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import Searching
from autolora.engine import ranks
from autolora.engine.disk.files import remove
from autolora.engine.disk.lock import locked
from autolora.engine.report.stage import write_report
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import OUT_OF_TIME, Interrupted, StopRequest
from autolora.engine.run.manifest import Changed, Stage
from autolora.engine.run.opening import Places, put_aside
from autolora.engine.run.program import commit
from autolora.engine.run.records import read_verdict
from autolora.engine.stages import run_stages
from autolora.engine.study.cells import Cell
from autolora.engine.study.launch import launch
from autolora.engine.tracking import tracker_of
from autolora.engine.verdict.arms import LEARNED, Arms, arms_of
from autolora.engine.verdict.judge import FEWEST, first_ending
from autolora.engine.verdict.record import write_verdict
from autolora.engine.verdict.shown import Shown, shown

log = logging.getLogger("autolora")

SENT = ("ending", "sentence", "pairs", "difference", "p", "gain", "gain_standard_error")
"""The keys of verdict.json that the summary of the wandb run gets."""


def run_verdict(request: Request, stop: StopRequest) -> RunFolder:
    """Trains the pairs that are still needed, judges them, and writes verdict.json and the report; searches first
    where the run has no ranks yet. Returns the run's folder.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop; the same command resumes.
    """
    config, folder = request.config, RunFolder.of(request.config)
    if not isinstance(config, Searching):
        raise UserError(f"--stage: 'verdict' is not allowed for --method {config.method}, whose ranks no search has "
                        f"found; allowed: a run of method autolora, lora_grid or optuna")  # fmt: skip
    if not folder.ranks.exists():
        run_stages(dataclasses.replace(request, stage="search", overwrite=False), stop, draw=False)
    with locked(folder.root):
        arms = arms_of(config, folder)
        _make_room(arms, folder, stop, overwrite=request.overwrite)
        if arms.shuffle_changes:
            _train(arms, folder, stop)
        else:
            write_verdict(None, arms, folder)
        if not folder.verdict_summary.exists():
            raise UserError(
                f"--verdict.minutes: {config.verdict.minutes:g} minutes are over, and the first pair and the head "
                f"alone are not both trained yet; the same command resumes them"
            )
        pictures, found = write_report(config, folder), read_verdict(folder.verdict_summary)
        with tracker_of(config, folder.root) as tracker:  # into the run whose ranks are judged
            if "verdict" in pictures:
                tracker.image("figures/verdict", pictures["verdict"])
            tracker.finish({f"verdict/{key}": found[key] for key in SENT if found[key] is not None})
    return folder


def _make_room(arms: Arms, folder: RunFolder, stop: StopRequest, *, overwrite: bool) -> None:
    """Checks that earlier pairs belong to this verdict, and keeps the ranks at which all its pairs are trained.

    Raises Changed when earlier pairs were trained otherwise; with `overwrite` they are put aside as verdict.old-N."""
    place = arms.folder
    rows = Context(arms.pair(1)[LEARNED].config, stop, stages=_stages(arms.config, folder))
    verdict = rows.stages[-1]
    try:
        for stage in rows.stages:
            stage.check_settings()
        rows.know("ranks", {"k": arms.record.k, **arms.record.kept}, str(folder.ranks))
        rows.know_rows()
    except Changed:
        if not overwrite:
            raise
        put_aside(place.root, old := Places(place.root).free)
        if folder.verdict_summary.exists():
            old.mkdir(exist_ok=True)
            os.rename(folder.verdict_summary, old / folder.verdict_summary.name)
        verdict = dataclasses.replace(verdict, recorded=None)
        rows.stages = [*rows.stages[:-1], verdict]
        rows.know_rows()
    if verdict.recorded is None:
        place.root.mkdir(parents=True, exist_ok=True)
        ranks.save(arms.record, place.ranks)
        verdict.begin(rows.known, {}, {"commit": commit()})


def _stages(config: Searching, folder: RunFolder) -> list[Stage]:
    """The verdict, and the search whose rows it must have: rows that judge would else be rows that were trained on.

    Raises UserError if the trainings would start from components that the run lacks."""
    if config.retrain.start == "search" and not (folder.search_weights.exists() and folder.search_summary.exists()):
        raise UserError(f"--retrain.init: 'search' needs {folder.search_weights}, which is not there; give scratch")
    name = "grid" if config.searches == "trials" else "search"
    own = Stage.of(name, config, folder)
    model = {key: value for key, value in own.settings.items() if key == "lora.target_modules"}
    return [Stage(name, folder, model, own.recorded, foreign="name"), Stage.of("verdict", config, folder)]


def _train(arms: Arms, folder: RunFolder, stop: StopRequest) -> None:
    """Trains pairs until a look decides, all are trained, or the time is over; writes verdict.json after each."""
    found = shown(arms)
    with _time_limit(stop, arms.config.verdict.minutes):
        while found is None or not _over(found, arms):
            _train_more(found, arms, stop)
            if found := shown(arms):
                write_verdict(found, arms, folder)
                log.info("after pair %d: mean difference %+.4f nats", found.count, found.pairs().mean)
    if found := shown(arms):
        write_verdict(found, arms, folder)


def _train_more(found: Shown | None, arms: Arms, stop: StopRequest) -> None:
    """Trains the first pair and the head alone, without which no pair tells anything; then the next pair or, side by
    side, all up to the next look. Of finished trainings only the numbers are kept. Raises UserError when one fails."""
    cells = _unfinished([*arms.pair(1).values(), *arms.heads()])
    if found is not None and not cells:
        done = found.complete
        last = done + 1 if arms.config.studied.launcher == "serial" else arms.plan.next(done)[0]
        cells = _unfinished(cell for number in range(done + 1, last + 1) for cell in arms.pair(number).values())
    try:
        failed = launch(cells, arms.config.studied, stop)
    finally:
        for run in (cell.folder for cell in cells if cell.finished):
            for path in (run.adapter, run.padded, run.merged, run.lora_config):
                remove(path)
    if failed:
        raise UserError(f"a training of the verdict failed, and the same command tries it again: {failed[0]}")


def _unfinished(cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if not cell.finished]


def _over(found: Shown, arms: Arms) -> bool:
    """Whether nothing is left to train: a look has decided, all pairs are trained, or LoRA gains nothing; and every
    arm has trained as many pairs as were judged, and the head alone all of its seeds."""
    decided = first_ending(arms.plan, found.count, found.pairs)
    needed = decided[1] if decided else found.count
    nothing = found.count >= FEWEST and found.pairs().worthless
    enough = decided is not None or nothing or found.count >= arms.plan.most
    return enough and found.complete >= needed and len(found.head) == len(arms.heads())


@contextmanager
def _time_limit(stop: StopRequest, minutes: float) -> Iterator[None]:
    """Ends the body without an error when the minutes are over; the training that is interrupted saves its state. A
    stop that a signal asks for still raises Interrupted."""
    stop.deadline = time.monotonic() + 60 * minutes
    try:
        yield
    except Interrupted as interrupted:
        if interrupted.code != OUT_OF_TIME:
            raise
    finally:
        stop.deadline = math.inf
        if stop.code == OUT_OF_TIME:  # the processes of a training have agreed on it
            stop.code = None
    stop.check()  # a signal may have come while the work saved itself
