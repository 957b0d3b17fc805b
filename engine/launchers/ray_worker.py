"""One cell in a Ray worker's process."""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass

from configs.cli import Request
from configs.errors import UserError

SECONDS_FOR_THE_LOCK = 120.0


@dataclass(frozen=True)
class Outcome:
    """What became of a cell. `error`: one line, None when it finished; `trace`: of an error that is not the user's."""

    error: str | None = None
    trace: str | None = None


def run_cell(request: Request, folder: str, again: bool) -> Outcome:
    """Runs a cell in the launching process's `folder`.

    `again`: an earlier worker of this cell has died. It may hold the run folder for a while yet: a machine can be
    given up for lost before its last process has ended.
    """
    os.chdir(folder)
    from engine.interrupt import Interrupted, watch_signals
    from engine.lock import InUse
    from engine.progress import quiet_libraries
    from engine.stages import run_stages

    quiet_libraries(speaks=False)
    until = time.monotonic() + (SECONDS_FOR_THE_LOCK if again else 0.0)
    while True:
        try:
            # Ray's cancelling arrives as SIGINT does: the step is finished and saved.
            with watch_signals() as stop:
                run_stages(request, stop, draw=False)
            return Outcome()
        except InUse as error:
            if time.monotonic() > until:
                return Outcome(str(error))
            time.sleep(1.0)
        except Interrupted:
            return Outcome("stopped")
        except UserError as error:
            return Outcome(str(error))
        except Exception as error:
            return Outcome(f"{type(error).__name__}: {error}", traceback.format_exc())
