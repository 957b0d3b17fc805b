"""One cell in a Ray worker's process."""

import os
import time

from configs.requests import Request

SECONDS_FOR_THE_LOCK = 120.0


def run_cell(request: Request, folder: str) -> None:
    """Runs a cell in the launching process's `folder`.

    Waits up to two minutes for the lock of the run folder: a worker that Ray gave up, or one of a killed study, may
    still hold it.

    Raises Interrupted when a signal asked the worker to leave: the cell is saved and can resume.
    """
    os.chdir(folder)
    from engine.disk.lock import InUse
    from engine.run.interrupt import watch_signals
    from engine.stages import run_stages
    from engine.terminal.console import show_log
    from engine.terminal.loading import quiet_libraries

    show_log(speaks=False)
    quiet_libraries()
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
