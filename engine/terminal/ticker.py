"""A line now and then about how far a long work is, where no terminal shows a progress bar."""

from __future__ import annotations

import time

from rich.console import Console

from engine.terminal.console import console, log

SECONDS_BETWEEN_LINES = 10


class Ticker:
    """Logs how much of `total` is done, at most every ten seconds; nothing where `on` is a terminal."""

    def __init__(self, what: str, total: int, on: Console = console) -> None:
        self.what = what
        self.total = total
        self.console = on
        self._last_line = time.monotonic()

    def tick(self, done: int, more: str = "") -> None:
        """Logs `done` of the total if a line is due; `more` ends the line."""
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            log.info("%s %d/%d%s", self.what, done, self.total, more and f"  {more}")
