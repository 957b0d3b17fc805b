"""Ctrl-C and SIGTERM: the run finishes its step, saves, and ends."""

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from autolora.configs.launch import speaks


def leave_at_signals() -> None:
    """Lets SIGINT and SIGTERM end the process with one line, while no run has begun and there is nothing to save.

    Raising an exception would not do, as libraries catch exceptions that are raised while they are imported.
    """
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, b"stopped before anything was begun\n")
    finally:
        os._exit(128 + number)


class Interrupted(BaseException):
    """The run was asked to stop. As with KeyboardInterrupt, no `except Exception` on the way takes it for an error.

    At the first signal it has saved what it had; a second one stops it `at_once`.

    `code`: the exit code (130 or 143), or OUT_OF_TIME."""

    def __init__(self, code: int, *, at_once: bool = False) -> None:
        super().__init__(code)
        self.code, self.at_once = code, at_once


_STOPPING = b"stopping as soon as what is done is saved; a second signal (Ctrl-C again) stops at once\n"
OUT_OF_TIME = -1
"""The code of a stop that a time limit asked for, not a signal."""


class StopRequest:
    """Whether a signal has asked this process to stop.

    The process stops at its next `check`; at a second signal, or with `at_once` at the first, it stops immediately.
    `deadline`: the time of time.monotonic() after which it is asked to stop, too.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._code: int | None = None
        self.at_once = at_once
        self.deadline = math.inf

    @property
    def code(self) -> int | None:
        """The exit code to stop with; OUT_OF_TIME after the deadline; None: go on."""
        return OUT_OF_TIME if self._code is None and time.monotonic() > self.deadline else self._code

    @code.setter
    def code(self, code: int | None) -> None:
        self._code = code

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        before = None if self.code == OUT_OF_TIME else self.code
        self.code = before or 128 + number
        if before is not None or self.at_once:
            raise Interrupted(self.code, at_once=True)
        if not speaks():
            return
        with suppress(OSError):  # print() is not allowed in a handler: it may interrupt another print()
            os.write(2, _STOPPING)

    def check(self) -> None:
        """Raises Interrupted if a signal has asked to stop; to be called when everything is saved."""
        if self.code is not None:
            raise Interrupted(self.code)


@contextmanager
def watch_signals(*, at_once: bool = False) -> Iterator[StopRequest]:
    """A `StopRequest` that SIGINT and SIGTERM set during the body; afterwards the earlier handlers are restored."""
    request = StopRequest(at_once=at_once)
    before = {number: signal.signal(number, request.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
