"""Log lines that tell how far a long task is, where no terminal shows a progress bar."""

import time

from rich.console import Console

from engine.terminal.console import console, log

SECONDS_BETWEEN_LINES = 10


class Ticker:
    """Logs at most every ten seconds how many of `total` steps are done, and nothing if the console is a terminal."""

    def __init__(self, what: str, total: int, on: Console = console) -> None:
        self.what = what
        self.total = total
        self.console = on
        self._last_line = time.monotonic()

    def tick(self, done: int, more: str = "") -> None:
        """Logs that `done` steps are done, if the last line is ten seconds old. The line ends with `more`."""
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            log.info("%s %d/%d%s", self.what, done, self.total, more and f"  {more}")
