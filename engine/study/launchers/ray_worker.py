"""One cell in a Ray worker's process."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from autolora.configs.requests import Request

SECONDS_FOR_THE_LOCK = 120.0
Warned = tuple[str, str]
"""A warning: the name of its logger, and its text."""
WARNED = "warned"
"""The attribute with the warnings of a cell that its error has."""


def run_cell(request: Request, folder: str) -> list[Warned]:
    """Runs a cell in the launching process's `folder`. Returns what the cell warned of: a worker prints nothing.

    Waits up to two minutes for the lock of the run folder: a worker that Ray gave up, or one of a killed study, may
    still hold it.

    Raises Interrupted when a signal asked the worker to leave: the cell is saved and can resume.
    """
    os.chdir(folder)
    from autolora.engine.terminal.console import show_log
    from autolora.engine.terminal.loading import quiet_libraries

    show_log(speaks=False)
    quiet_libraries()
    with _warnings() as warned:
        _run(request)
    return warned


@contextmanager
def _warnings() -> Iterator[list[Warned]]:
    """The program's warnings inside `with`. An error that leaves it takes them along."""
    warned: list[Warned] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warned.append((record.name, record.getMessage()))

    keep, log = Keep(logging.WARNING), logging.getLogger("autolora")
    log.addHandler(keep)
    try:
        yield warned
    except BaseException as error:
        setattr(error, WARNED, warned)
        raise
    finally:
        log.removeHandler(keep)


def _run(request: Request) -> None:
    from autolora.engine.disk.lock import InUse
    from autolora.engine.run.interrupt import watch_signals
    from autolora.engine.stages import run_stages

    until = time.monotonic() + SECONDS_FOR_THE_LOCK
    # Ray cancels a worker by SIGINT; the cell then finishes its step and saves.
    with watch_signals() as stop:
        while True:
            try:
                run_stages(request, stop, draw=False)
                return
            except InUse:
                stop.check()
                if time.monotonic() > until:
                    raise
                time.sleep(1.0)
