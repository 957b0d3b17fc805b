"""Log lines that tell how far a long task is, where no terminal shows a progress bar."""

import time

from rich.console import Console

from engine.terminal.console import console, log

SECONDS_BETWEEN_LINES = 10


class Ticker:
    """Logs at most every ten seconds how many of `total` steps are done, and nothing if the console is a terminal.

    `done`: those that were done before, which say nothing about the pace.
    """

    def __init__(self, what: str, total: int, on: Console = console, done: int = 0) -> None:
        self.what = what
        self.total = total
        self.console = on
        self._before = done
        self._began = self._last_line = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the next `tick` logs a line."""
        return not self.console.is_terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES

    def tick(self, done: int, more: str = "") -> None:
        """Logs that `done` steps are done, if the last line is ten seconds old. The line ends with `more`."""
        if self.due:
            now = self._last_line = time.monotonic()
            speed = (done - self._before) / (now - self._began)
            pace = pace_words(speed, (self.total - done) / speed if speed > 0 else None)
            log.info("%s", "  ".join(filter(None, (f"{self.what} {done}/{self.total}", pace, more))))


def pace_words(speed: float | None, left: float | None) -> str:
    """`2.5/s, 0:52 left`: steps a second, and the time that the rest takes; nothing where neither is known."""
    if not speed:
        return ""
    rate = f"{speed:.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min"
    return rate if left is None else f"{rate}, {clock(left)} left"


def clock(seconds: float) -> str:
    """`0:52`, `1:02:03`: minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
