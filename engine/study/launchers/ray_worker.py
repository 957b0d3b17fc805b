"""One cell in a Ray worker's process."""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass

from configs.errors import UserError
from configs.requests import Request

SECONDS_FOR_THE_LOCK = 120.0


@dataclass(frozen=True)
class Outcome:
    """What became of a cell. `error`: one line, None when it finished; `trace`: of an error that is not the user's;
    `stopped`: a signal asked the worker to leave, the cell is saved and can go on."""

    error: str | None = None
    trace: str | None = None
    stopped: bool = False


def run_cell(request: Request, folder: str) -> Outcome:
    """Runs a cell in the launching process's `folder`.

    A worker of before may hold the run folder for a while yet: a machine can be given up for lost, and a launching
    process be killed, before the last process has ended. It is waited for.
    """
    os.chdir(folder)
    from engine.disk.lock import InUse
    from engine.run.interrupt import Interrupted, watch_signals
    from engine.stages import run_stages
    from engine.terminal.console import quiet_libraries

    quiet_libraries(speaks=False)
    until = time.monotonic() + SECONDS_FOR_THE_LOCK
    # Ray's cancelling arrives as SIGINT does: the step is finished and saved.
    with watch_signals() as stop:
        while True:
            try:
                run_stages(request, stop, draw=False)
                return Outcome()
            except InUse as error:
                if stop.code is not None or time.monotonic() > until:
                    return Outcome(str(error), stopped=stop.code is not None)
                time.sleep(1.0)
            except Interrupted:
                return Outcome("stopped", stopped=True)
            except UserError as error:
                return Outcome(str(error))
            except Exception as error:
                return Outcome(f"{type(error).__name__}: {error}", traceback.format_exc())
