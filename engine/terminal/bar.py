"""A progress bar; without a terminal, a log line every ten seconds instead."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autolora.engine.terminal.console import console, log

SECONDS_BETWEEN_LINES = 10


class Bar:
    """The progress bar of `total` steps, shown inside `with`; `below` is drawn below it.

    `steady`: a thread redraws the bar all the time. Off, only `step` redraws it, so that nothing disturbs steps that
    are timed.
    """

    def __init__(
        self,
        what: str,
        total: int,
        done: int = 0,
        below: Sequence[RenderableType] = (),
        on: Console = console,
        steady: bool = True,
    ) -> None:
        self.console, self.what, self.total = on, what, total
        columns = TextColumn(what, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=on)
        self._task = self._progress.add_task(what, total=total, completed=done)
        self._steady = steady
        self._live = Live(Group(self._progress, *below), console=on, auto_refresh=steady)
        self._began = self._last_line = time.monotonic()
        self._before = done

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    @property
    def due(self) -> bool:
        """Whether the next `step` logs a line."""
        return not self.console.is_interactive and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES

    def step(self, done: int, more: str = "") -> None:
        """Moves the bar to `done`, or logs a line, which ends with `more`, if one is due."""
        self._progress.update(self._task, completed=done)
        if not self._steady and self.console.is_interactive:
            self._live.refresh()
        if self.due:
            self._last_line = time.monotonic()
            pace = (done - self._before) / (self._last_line - self._began)
            left = f"{clock((self.total - done) / pace)} left" if pace else ""
            log.info("%s", "  ".join(filter(None, (f"{self.what} {done}/{self.total}", left, more))))

    def grow(self, more: int) -> None:
        """Adds `more` steps to the total (below 0: removes some), where the work differs from what was planned."""
        self.total += more
        self._progress.update(self._task, total=self.total)


def clock(seconds: float) -> str:
    """`0:52` or `1:02:03`: minutes and seconds, and hours unless they are 0."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
