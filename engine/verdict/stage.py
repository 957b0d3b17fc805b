"""--stage verdict: train pairs up to the next look of the test, until a look decides or the time is over."""

import dataclasses
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from autolora.configs.errors import UserError
from autolora.configs.files import of_folder
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig, Searching
from autolora.engine import ranks
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.disk.lock import locked
from autolora.engine.report.stage import write_report
from autolora.engine.run.context import Context
from autolora.engine.run.faults import explained
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import OUT_OF_TIME, Interrupted, StopRequest
from autolora.engine.run.opening import Places, settle_if_free
from autolora.engine.stages import run_stages
from autolora.engine.study.cells import Cell
from autolora.engine.study.launch import launch
from autolora.engine.tracking.login import wandb_mode
from autolora.engine.verdict.again import refuse_other_data, refuse_other_pairs, refuse_other_search
from autolora.engine.verdict.arms import LEARNED, Arms, arms_of, forget_models, rate_of
from autolora.engine.verdict.judge import FEWEST, first_ending
from autolora.engine.verdict.losses import Shown, shown
from autolora.engine.verdict.record import write_verdict
from autolora.engine.verdict.tracking import track_verdict

log = logging.getLogger("autolora")


def run_verdict(request: Request, stop: StopRequest) -> RunFolder:
    """Trains the pairs that are still needed, judges them, and writes verdict.json and the report; searches first
    where the run has no ranks yet. Returns the run's folder.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop: the finished pairs are
    judged all the same, and the same command resumes.
    """
    folder = RunFolder.of(request.config)
    config = _refuse(request.config, folder)
    if not folder.ranks.exists():
        run_stages(dataclasses.replace(request, stage="search", overwrite=False), stop, draw=False)
    with locked(folder.root), explained(folder.root):
        arms = arms_of(config, folder, stop)
        rows = Context(arms.pair(1)[LEARNED].config, stop)
        _make_room(arms, folder, rows, overwrite=request.overwrite)
        try:
            found = _train(arms, rows, stop) if arms.shuffle_changes else None
        except Interrupted as stopped:
            with suppress(UserError):  # the next command raises it again
                if not stopped.at_once and (judged := shown(arms)) is not None:
                    write_verdict(judged, arms, folder)
                    write_report(config, folder)
            raise
        if arms.shuffle_changes and found is None:
            raise UserError(
                f"--verdict.minutes: {config.verdict.minutes:g} minutes are over, and the first pair and the head "
                f"alone are not both trained yet; the same command resumes them"
            )
        write_verdict(found, arms, folder)
        track_verdict(config, folder, write_report(config, folder))
    return folder


def _refuse(config: RunConfig, folder: RunFolder) -> Searching:
    """The settings. Raises UserError, before anything is loaded, for a run that cannot have a verdict."""
    settle_if_free(folder.root)
    wandb_mode(config)  # the verdict is sent at its end
    if not isinstance(config, Searching):
        raise UserError(
            f"--stage: 'verdict' is not allowed for --method {config.method}, whose ranks no search has found; "
            f"allowed: a run of method autolora, lora_grid or optuna"
        )
    refuse_other_search(config, folder)
    rate_of(config, folder)
    return config


def _make_room(arms: Arms, folder: RunFolder, rows: Context, *, overwrite: bool) -> None:
    """Checks that earlier pairs belong to this verdict, and keeps the ranks at which all its pairs are trained and how
    many are planned.

    Raises UserError when earlier pairs were trained otherwise. With `overwrite` the pairs of such a verdict, and those
    of a finished one, are put aside as verdict.old-N; those of an unfinished verdict are kept, and it resumes.
    """
    place = arms.folder
    try:
        refuse_other_pairs(arms)
        if overwrite:
            refuse_other_data(rows, arms)
        stale = overwrite and (found := shown(arms)) is not None and _over(found, arms)
    except UserError:
        if not overwrite:
            raise
        stale = True
    if stale and place.root.exists():
        old = Places(place.root).free
        os.rename(place.root, old)
        if folder.verdict_summary.exists():
            os.rename(folder.verdict_summary, old / folder.verdict_summary.name)
    if not folder.config.exists():  # no run wrote it: someone wrote ranks.json by hand
        write_text(folder.config, of_folder(arms.config))
    if not place.ranks.exists():
        place.root.mkdir(parents=True, exist_ok=True)
        ranks.save(arms.record, place.ranks)
    if not place.plan.exists():
        write_json(place.plan, {"pairs": arms.config.verdict.pairs})


def _train(arms: Arms, rows: Context, stop: StopRequest) -> Shown | None:
    """Trains pairs until a look decides, all are trained, or the time is over. Returns the finished pairs; None if
    there is none."""
    found = shown(arms)
    in_turn = arms.config.studied.launcher == "serial"
    with _time_limit(stop, arms.config.verdict.minutes):
        if found is None or not _over(found, arms):
            refuse_other_data(rows, arms)
        while found is None or not _over(found, arms):
            # Without a head no pair tells anything: the heads follow the first pair.
            done = 0 if found is None else found.complete
            decided = found is not None and _decided(found, arms)
            last = done if decided else done + 1 if in_turn or not done else arms.plan.next(done)[0]
            pairs = [cell for number in range(done + 1, last + 1) for cell in arms.pair(number).values()]
            first = [cell for cell in arms.pair(1).values() if not cell.finished]
            _run([*first, *arms.heads()], arms, stop)
            _run(pairs, arms, stop)
            found = shown(arms)
            assert found is not None
            pairs_so_far = found.pairs()
            log.info("after pair %d: mean difference %+.4f nats, the newest %+.4f", found.count, pairs_so_far.mean,
                     pairs_so_far.differences[-1])  # fmt: skip
    return shown(arms)


def _run(cells: Sequence[Cell], arms: Arms, stop: StopRequest) -> None:
    """Trains the unfinished ones of these cells by the study's launcher. Raises UserError when one fails."""
    cells = [cell for cell in cells if not cell.finished]
    try:
        failed = launch(cells, arms.config.studied, stop) if cells else []
    finally:
        forget_models(cells)
    if failed:
        raise UserError(f"a training of the verdict failed, and the same command tries it again: {failed[0]}")


def _over(found: Shown, arms: Arms) -> bool:
    """Whether nothing is left to train."""
    return _decided(found, arms) and len(found.head) == len(arms.heads())


def _decided(found: Shown, arms: Arms) -> bool:
    """Whether no further pair is trained: a look has decided, all pairs are trained, or LoRA gains nothing; and every
    arm has trained as many pairs as were judged."""
    nothing = found.count >= FEWEST and found.pairs().worthless
    decided = first_ending(arms.plan, found.count, found.pairs)
    needed = found.count if decided is None else decided[1]
    return (found.count >= arms.plan.most or nothing or decided is not None) and found.complete >= needed


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
