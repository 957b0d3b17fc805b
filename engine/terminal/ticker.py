"""Log lines about the progress of a long task, for output without a terminal."""

import time

from rich.console import Console

from autolora.engine.terminal.console import console, log

SECONDS_BETWEEN_LINES = 10


class Ticker:
    """Logs at most every ten seconds how many of `total` steps are done; logs nothing if the console is a terminal.

    `done`: steps that were done before a resume; the pace is computed without them.
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
        return not self.console.is_interactive and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES

    def tick(self, done: int, more: str = "") -> None:
        """Logs that `done` steps are done, if a line is `due`. The line ends with `more`."""
        if self.due:
            now = self._last_line = time.monotonic()
            speed = (done - self._before) / (now - self._began)
            pace = pace_words(speed, (self.total - done) / speed if speed > 0 else None)
            log.info("%s", "  ".join(filter(None, (f"{self.what} {done}/{self.total}", pace, more))))


def pace_words(speed: float | None, left: float | None) -> str:
    """`2.5/s, 0:52 left`: steps per second and the time left; "" if the speed is not known."""
    if not speed:
        return ""
    rate = f"{speed:.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min"
    return rate if left is None else f"{rate}, {clock(left)} left"


def clock(seconds: float) -> str:
    """`0:52` or `1:02:03`: minutes and seconds, and hours unless they are 0."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
