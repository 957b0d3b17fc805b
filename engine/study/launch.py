"""Start the cells of a study, or the trainings of a verdict: in turn in this process, or by Ray's
own tasks."""

import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.study import RayConfig, StudyConfig
from autolora.engine.disk.lock import InUse
from autolora.engine.interrupt import Interrupted, StopRequest, watch_signals
from autolora.engine.run.resources import own_cores
from autolora.engine.stages import run_stages
from autolora.engine.study.cells import Cell, in_order
from autolora.engine.terminal.bar import clock
from autolora.engine.terminal.console import show_log

log = logging.getLogger("autolora")

PROJECT = Path(__file__).resolve().parents[2]
SECONDS_FOR_THE_LOCK = 120.0
SECONDS_TO_SAVE = 120.0
RETRIES = 3
"""How many times a cell resumes on Ray from its last checkpoint after its worker or machine has
died."""
_OF_RAY = {
    # Ray's own `uv run` hook would build a new environment for each worker; cells need that of this
    # process.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Hides the GPUs from a worker if `study.ray.gpus` is 0.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}

Ended = tuple[Cell, Exception | None]
"""A cell that has finished, or failed with this error."""


def launch(
    cells: Sequence[Cell], settings: StudyConfig, stop: StopRequest, *, overwrite: bool = False
) -> list[str]:
    """Runs these cells, each after those of them that it needs; a failed one stops no other.
    Returns a line for each that failed. `overwrite` replaces what was made before.

    Raises UserError for what the user must change first, Interrupted when a signal asked to
    stop."""
    if not cells:
        return []
    began = time.monotonic()
    failed = list[str]()
    run = (
        _on_ray(cells, settings.on, stop, overwrite)
        if settings.launcher == "ray"
        else _in_turn(cells, stop, overwrite)
    )
    for done, (cell, error) in enumerate(run, start=1):
        what = f"finished: {cell.name}"
        if error is not None:  # the traceback of an unexpected one is in the cell's log.txt
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            failed.append(f"{cell.name}: {kind}{error}".splitlines()[0])
            what = f"failed: {failed[-1]}"
        left = (time.monotonic() - began) * (len(cells) - done) / done
        log.info("cell %d of %d %s (about %s left)", done, len(cells), what, clock(left))
    return failed


def run_cell(cell: Cell, overwrite: bool, stop: StopRequest) -> None:
    """Runs one cell, which resumes. A worker of a study that was killed may still hold its folder:
    waits two minutes for it."""
    until = time.monotonic() + SECONDS_FOR_THE_LOCK
    while True:
        try:
            run_stages(Request(cell.placed(), overwrite=overwrite), stop, draw=False)
            return
        except InUse:
            stop.check()
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


def _in_turn(cells: Sequence[Cell], stop: StopRequest, overwrite: bool) -> Iterator[Ended]:
    failed = set[str]()
    for cell in in_order(cells):
        error: Exception | None = None
        try:
            if needed := failed.intersection(cell.needs):
                raise UserError(f"it needs {min(needed)}, which failed")
            run_cell(cell, overwrite, stop)
        except Exception as found:
            failed.add(cell.name)
            error = found
        yield cell, error


def _on_ray(
    cells: Sequence[Cell], settings: RayConfig, stop: StopRequest, overwrite: bool
) -> Iterator[Ended]:
    """Each cell is a task, which gets the tasks of the cells that it needs as arguments, so that
    Ray waits for them. Ray begins a task again whose worker or machine died, and the cell
    resumes."""
    for key, value in _OF_RAY.items():
        os.environ.setdefault(key, value)
    import ray

    _connect(ray, settings)
    try:
        gpus = float("GPU" in ray.cluster_resources()) if settings.gpus is None else settings.gpus
        again: dict[str, Any] = {"max_retries": RETRIES, "retry_exceptions": [InterruptedError]}
        task = ray.remote(num_cpus=settings.cpus, num_gpus=gpus, **again)(_work)
        begun = dict[str, Any]()
        for cell in in_order(cells):
            sources = [begun[name] for name in cell.needs if name in begun]
            begun[cell.name] = task.remote(cell, overwrite, os.getcwd(), *sources)
        waiting = {begun[cell.name]: cell for cell in cells}
        try:
            while waiting:
                for reference in ray.wait(list(waiting), timeout=0.5)[0]:
                    yield waiting.pop(reference), _error(ray, reference)
                stop.check()
        finally:
            for reference in waiting:  # as Ctrl-C asks a single run: it saves, and ends
                ray.cancel(reference, force=False)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=SECONDS_TO_SAVE)
    finally:
        ray.shutdown()


def _connect(ray: Any, settings: RayConfig) -> None:
    """Joins the cluster of `study.ray.address`, or starts Ray on this machine."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # ray.init ignores logging_level if configure_logging=False
    logging.getLogger("ray").setLevel(logging.ERROR)
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # The smallest object store that Ray accepts: cells exchange nothing.
    here: dict[str, Any] = {
        "object_store_memory": 80 * 2**20,
        "include_dashboard": False,
        "num_cpus": own_cores(),
    }
    ray.init(
        settings.address or "local",
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
        **({} if settings.address else here),
    )
    # Ray installs its own signal handlers, which would end this process before the cells have
    # saved.
    for number, handler in before.items():
        signal.signal(number, handler)


def _error(ray: Any, reference: Any) -> Exception | None:
    """How a task failed; None if it has not."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    # the worker was killed, ran out of memory, or its machine went away
    except ray.exceptions.RayError as error:
        return UserError(f"its worker died {RETRIES + 1} times ({type(error).__name__})")
    return None


def _work(cell: Cell, overwrite: bool, folder: str, *sources: None) -> None:
    """A cell in a worker's process, which prints nothing: the cell has a log.txt. Ray cancels it by
    SIGINT."""
    os.chdir(folder)
    from autolora.engine.terminal.loading import quiet_libraries  # its imports take seconds

    show_log(speaks=False)
    quiet_libraries()
    try:
        with watch_signals() as stop:
            run_cell(cell, overwrite, stop)
    except Interrupted as error:  # Ray sends on what derives from Exception alone
        raise InterruptedError(str(error)) from error
