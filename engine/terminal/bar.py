"""A progress bar; without a terminal, a log line every ten seconds instead."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from autolora.engine.terminal.console import console, log
from autolora.engine.terminal.rank_map import RankMap

SECONDS_BETWEEN_LINES = 10


class Bar:
    """The progress bar of `total` steps, shown inside `with`; below it stand the newest numbers,
    and then the ranks of `layers`, of at most `k` components each."""

    def __init__(
        self, what: str, total: int, done: int = 0, layers: Sequence[str] = (), k: int = 0
    ) -> None:
        self.what = what
        self.total = total
        self._numbers = Text("", no_wrap=True, overflow="ellipsis")
        self._map = RankMap(layers, k)
        columns = (
            TextColumn(what, markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task(what, total=total, completed=done)
        self._live = Live(Group(self._progress, self._numbers, self._map), console=console)
        self._began = self._last_line = time.monotonic()
        self._before = done

    def __enter__(self) -> Self:
        if console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def step(self, done: int) -> None:
        """Moves the bar to `done`, or logs a line, which ends with the numbers, if one is due."""
        self._progress.update(self._task, completed=done)
        now = time.monotonic()
        if not console.is_interactive and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            pace = max(1, done - self._before) / (now - self._began)
            left = clock((self.total - done) / pace)
            log.info(
                "%s %d/%d  %s left  %s", self.what, done, self.total, left, self._numbers.plain
            )

    def show(self, numbers: str, ranks: Sequence[int] = ()) -> None:
        """Shows the newest numbers, and the rank of each layer as it is now."""
        self._numbers.plain = numbers
        self._map.ranks = ranks

    def grow(self, more: int) -> None:
        """Adds `more` steps to the total (below 0: removes some), where the work differs from what
        was planned."""
        self.total += more
        self._progress.update(self._task, total=self.total)


def clock(seconds: float) -> str:
    """`0:52` or `1:02:03`: minutes and seconds, and hours unless they are 0."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
