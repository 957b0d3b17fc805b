"""--stage verdict: train pairs up to the next look of the test, until a look decides or the time is over."""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from autolora.configs.count_words import counted
from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig, Searching
from autolora.engine import ranks
from autolora.engine.disk.files import remove, sync, write_json, write_text
from autolora.engine.disk.lock import locked
from autolora.engine.report.stage import write_report
from autolora.engine.report.words import signed, told_apart
from autolora.engine.run.context import Context
from autolora.engine.run.faults import explained
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.run.settling import settle_if_free
from autolora.engine.stages import run_stages
from autolora.engine.study.cells import Cell
from autolora.engine.study.launchers import LAUNCHERS, Job, Running
from autolora.engine.terminal.console import told_once
from autolora.engine.tracking.login import wandb_mode
from autolora.engine.verdict.again import (
    refuse_data_after_pairs,
    refuse_data_after_search,
    refuse_other_model,
    refuse_other_plan,
    refuse_other_ranks,
    refuse_other_rows,
    refuse_other_settings,
    refuse_without_components,
    tell_ignored,
    tell_other_retraining,
)
from autolora.engine.verdict.arms import LEARNED, SHUFFLED, Arms, forget_models, rate_of
from autolora.engine.verdict.clock import time_limit
from autolora.engine.verdict.judge import FEWEST, Plan, first_ending
from autolora.engine.verdict.layers import arms_of
from autolora.engine.verdict.losses import Shown, shown
from autolora.engine.verdict.record import write_verdict
from autolora.engine.verdict.tracking import track_verdict

log = logging.getLogger("autolora")


@told_once()
def run_verdict(request: Request, stop: StopRequest) -> RunFolder:
    """Trains the pairs that are still needed, judges them, and writes verdict.json and the report; searches first
    where the run has no ranks yet. Returns the run's folder.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop: the finished pairs are
    judged all the same, and the same command resumes.
    """
    folder = RunFolder.of(request.config)
    config = _refuse(request.config, folder)
    tell_ignored(request, folder)
    tell_other_retraining(config, folder)
    if not folder.ranks.exists():
        run_stages(dataclasses.replace(request, stage="search", overwrite=False), stop, draw=False)
    with locked(folder.root), explained(folder.root):
        arms = arms_of(config, folder, stop)
        rows = Context(arms.pair(1)[LEARNED].config, stop)
        _make_room(arms, folder, rows, overwrite=request.overwrite)
        try:
            found = _train(request, arms, rows, stop) if arms.shuffle_changes else None
        except Interrupted as stopped:
            if not stopped.at_once:
                _judge_what_is_there(arms, folder)
            raise
        if arms.shuffle_changes and found is None:
            raise UserError(
                f"--verdict.minutes: {config.verdict.minutes:g} minutes are over, and the first pair and the head "
                f"alone are not both trained yet; the same command resumes them"
            )
        track_verdict(config, folder, _judge(found, arms, folder))
    return folder


def _judge(found: Shown | None, arms: Arms, folder: RunFolder) -> dict[str, Path]:
    """Writes verdict.json and the report; returns the report's pictures by name."""
    write_verdict(found, arms, folder)
    return write_report(arms.config, folder)


def _judge_what_is_there(arms: Arms, folder: RunFolder) -> None:
    """Judges the finished pairs after a signal, if there are any. Ignores a UserError, as this command ends because of
    the signal; the next command raises it again."""
    with suppress(UserError):
        found = shown(arms)
        if found is not None:
            _judge(found, arms, folder)


def _refuse(config: RunConfig, folder: RunFolder) -> Searching:
    """The settings. Raises UserError, before anything is loaded, for a run that cannot have a verdict."""
    settle_if_free(folder.root)
    wandb_mode(config)  # the verdict is sent at its end
    if not isinstance(config, Searching):
        raise UserError(
            f"--stage: 'verdict' is not allowed for --method {config.method}, whose ranks no search has found; "
            f"allowed: a run of method autolora, lora_grid or optuna"
        )
    refuse_other_rows(config, folder)
    refuse_other_model(config, folder)
    if folder.ranks.exists():
        refuse_without_components(config, folder)
        rate_of(config, folder)
    elif len(config.retrain.rates) > 1:
        raise UserError(
            "--retrain.learning_rate: --stage verdict trains at one; run --stage all first, which chooses one"
        )
    LAUNCHERS[config.studied.launcher].check(config.studied)
    return config


def _make_room(arms: Arms, folder: RunFolder, rows: Context, *, overwrite: bool) -> None:
    """Checks that earlier pairs belong to this verdict, and keeps the ranks at which all its pairs are trained and how
    many are planned.

    Raises UserError when earlier pairs were trained at other ranks, under other settings or by another plan; `_train`
    refuses pairs on other rows. With `overwrite` nothing is refused for these reasons: all pairs are deleted if they
    were trained at other ranks, under other settings, by another plan or on other rows, or if the verdict is finished.
    The pairs of an unfinished verdict are kept, and it resumes.
    """
    config, place = arms.config, arms.folder
    if overwrite:
        refuse_data_after_search(rows, folder)  # before anything is deleted
    try:
        refuse_other_ranks(arms, folder.ranks)
        refuse_other_plan(arms)
        refuse_other_settings(arms)
        if overwrite:
            refuse_data_after_pairs(rows, place)
        found = shown(arms) if overwrite else None
        stale = found is not None and _over(found, arms)
    except UserError:
        if not overwrite:
            raise
        stale = True
    remove(place.discarded)  # a killed command may have left it
    if stale:
        remove(folder.verdict_summary)
        if place.root.exists():
            place.root.rename(place.discarded)
            sync(folder.root)
        remove(place.discarded)
    if not folder.config.exists():  # no run wrote it: someone wrote ranks.json by hand
        write_text(folder.config, to_yaml(config))
    if not place.ranks.exists():
        place.root.mkdir(parents=True, exist_ok=True)
        ranks.save(arms.record, place.ranks)
    if not place.plan.exists():
        write_json(place.plan, {"pairs": config.verdict.pairs})


def _train(request: Request, arms: Arms, rows: Context, stop: StopRequest) -> Shown | None:
    """Trains pairs until a look decides, all are trained, or the time is over, and logs a line after each pair.

    Returns the finished pairs; None if there is none.
    """
    config, began, found, first, paced = arms.config, time.monotonic(), shown(arms), True, False
    with time_limit(stop, config.verdict.minutes):
        while found is None or not _over(found, arms):
            if first:
                refuse_data_after_search(rows, RunFolder.of(config))
                refuse_data_after_pairs(rows, arms.folder)
            done, before = 0 if found is None else found.complete, found
            decided = found is not None and _decided(found, arms.plan)  # a training of the head was removed after that
            pairs = [] if decided else _next(arms, done, one=config.studied.launcher == "serial" or first)
            # A resumed training would make the pair look faster than it is.
            whole = bool(pairs) and not any(cell.folder.config.exists() for cell in pairs)
            seconds = _trained(request, arms, pairs, stop)
            found = shown(arms)
            assert found is not None
            if before is None or found.count > before.count:
                _tell(found)
            if whole and not paced:  # log it once in a command
                _tell_pace(seconds / len(pairs) * len(arms.names), arms.plan)
                paced = True
            first = False
    minutes = counted(round((time.monotonic() - began) / 60, 1), "minute")
    log.info("verdict: %s, %s", counted(0 if found is None else found.count, "pair"), minutes)
    return shown(arms)


def _over(found: Shown, arms: Arms) -> bool:
    """Whether nothing is left to train."""
    return _decided(found, arms.plan) and len(found.head) == len(arms.heads())


def _decided(found: Shown, plan: Plan) -> bool:
    """Whether no further pair is trained: a look has decided, all pairs are trained, or LoRA gains nothing; and every
    arm has trained as many pairs as were judged."""
    nothing = found.count >= FEWEST and found.pairs().worthless
    decided = first_ending(plan, found.count, found.pairs)
    needed = found.count if decided is None else decided[1]
    return (found.count >= plan.most or nothing or decided is not None) and found.complete >= needed


def _trained(request: Request, arms: Arms, pairs: Sequence[Cell], stop: StopRequest) -> float:
    """Trains these cells of pairs, and the heads alone if they are not trained yet. Returns the seconds of the pairs.

    The heads follow the first pair. If a stop came between the two, they go before the next pair, as without them no
    pair tells anything.
    """
    heads = [cell for cell in arms.heads() if not cell.folder.metrics.exists()]
    if all(cell.folder.metrics.exists() for cell in arms.pair(1).values()):
        _run(request, heads, stop)
        return _seconds_of(request, pairs, stop)
    seconds = _seconds_of(request, pairs, stop)
    _run(request, heads, stop)
    return seconds


def _seconds_of(request: Request, cells: Sequence[Cell], stop: StopRequest) -> float:
    """Trains these cells, and returns the seconds that they took."""
    began = time.monotonic()
    _run(request, cells, stop)
    return time.monotonic() - began


def _next(arms: Arms, done: int, *, one: bool) -> list[Cell]:
    """The unfinished trainings of the next pair (`one`), or of all pairs up to the next look."""
    last = done + 1 if one else arms.plan.next(done)[0]
    cells = [cell for number in range(done + 1, last + 1) for cell in arms.pair(number).values()]
    return [cell for cell in cells if not cell.folder.metrics.exists()]


def _run(request: Request, cells: Sequence[Cell], stop: StopRequest) -> None:
    """Trains these cells, if there are any, by the study's launcher. Raises UserError when one fails."""
    if not cells:
        return
    jobs = [Job(str(cell.config.name), _request(request, cell), folder=cell.folder) for cell in cells]
    settings = request.config.studied
    # In turn, the next line says that a training has finished.
    running = Running(jobs, settings.on.retries, tells_ends=settings.launcher != "serial")
    try:
        failed = LAUNCHERS[settings.launcher].run(running, settings, stop)
    finally:
        forget_models(list(cells))
    if failed:
        raise UserError(f"a training of the verdict failed, and the same command tries it again: {failed[0]}")


def _request(request: Request, cell: Cell) -> Callable[[], Request]:
    return lambda: Request(cell.config, "all", False, request.source)


def _tell(found: Shown) -> None:
    """Logs a line about the newest pair."""
    pairs = found.pairs()
    learned, other = told_apart([found.means(LEARNED)[-1], found.means(SHUFFLED)[-1]])
    log.info(
        "pair %d: loss %s at the learned ranks, %s at shuffled ranks, difference %s (mean %s)",
        found.count, learned, other, signed(pairs.differences[-1]), signed(pairs.mean),
    )  # fmt: skip


def _tell_pace(seconds: float, plan: Plan) -> None:
    """Logs how long the fewest and the most pairs take; `seconds`: the time of one pair."""
    first, *others = [(pairs, max(1, round(seconds * pairs / 60))) for pairs in sorted({FEWEST, plan.most})]
    more = "".join(f", {pairs} pairs {minutes}" for pairs, minutes in others)
    log.info("%d pairs take about %s%s", first[0], counted(first[1], "minute"), more)
