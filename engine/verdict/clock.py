"""The minutes that a verdict may take."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from autolora.engine.run.interrupt import OUT_OF_TIME, Interrupted, StopRequest


@contextmanager
def time_limit(stop: StopRequest, minutes: float) -> Iterator[None]:
    """Asks `stop` to stop when the minutes are over, and then ends the body without an error.

    The training that is interrupted saves its state and can be resumed. A stop that a signal asks for still raises
    Interrupted.
    """

    def over() -> None:
        if stop.code is None:
            stop.code = OUT_OF_TIME

    timer = threading.Timer(min(60 * minutes, threading.TIMEOUT_MAX), over)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Interrupted as interrupted:
        if interrupted.code != OUT_OF_TIME:
            raise
        if stop.code != OUT_OF_TIME:  # a signal came while the work saved itself
            stop.check()
    finally:
        timer.cancel()
        if stop.code == OUT_OF_TIME:
            stop.code = None
