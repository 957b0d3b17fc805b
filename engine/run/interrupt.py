"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop and has saved what it had. `code` is the exit code (130 or 143)."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class StopRequest:
    """Whether a signal has asked this process to stop; a second signal stops it at once."""

    def __init__(self) -> None:
        self.code: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if self.code is not None:
            raise Interrupted(self.code)
        self.code = 128 + number

    def check(self) -> None:
        """Raises Interrupted when a stop was asked for; called where everything is saved."""
        if self.code is not None:
            raise Interrupted(self.code)


@contextmanager
def watch_signals() -> Iterator[StopRequest]:
    """A `StopRequest` that hears SIGINT and SIGTERM inside; afterwards the earlier handlers are back."""
    request = StopRequest()
    before = {number: signal.signal(number, request.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
