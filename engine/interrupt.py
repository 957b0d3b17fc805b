"""Ctrl-C and SIGTERM: the run finishes its step, saves, and ends."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from autolora.configs.launch import speaks


class Interrupted(BaseException):
    """The run was asked to stop. As with KeyboardInterrupt, no `except Exception` on the way takes
    it for an error.

    `code`: the exit code (130 or 143)."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


_STOPPING = (
    b"stopping as soon as what is done is saved; a second signal (Ctrl-C again) stops at once\n"
)


class StopRequest:
    """Whether a signal has asked this process to stop: `code`, the exit code to stop with (None: go
    on).

    The process stops at its next `check`; at a second signal it stops immediately."""

    code: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        before = self.code
        self.code = self.code or 128 + number
        if before is not None:
            raise Interrupted(self.code)
        if not speaks():
            return
        # print() is not allowed in a handler: it may interrupt another print()
        with suppress(OSError):
            os.write(2, _STOPPING)

    def check(self) -> None:
        """Raises Interrupted if a signal has asked to stop; to be called when everything is
        saved."""
        if self.code is not None:
            raise Interrupted(self.code)


@contextmanager
def watch_signals() -> Iterator[StopRequest]:
    """A `StopRequest` that SIGINT and SIGTERM set during the body; afterwards the earlier handlers
    are restored."""
    request = StopRequest()
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, request.handle)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
