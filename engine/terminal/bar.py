"""A progress bar, and a log line every ten seconds in its place where there is no terminal."""

from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.terminal.console import console
from engine.terminal.ticker import Ticker

REFRESHES_PER_SECOND = 4


class Bar:
    """The progress bar of a task of `total` steps, shown inside `with`; what is `below` is drawn below the bar.

    `steady`: the bar moves between two steps too. Off, `step` alone draws it, and nothing runs while a step is timed.
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
        self.console = on
        self.ticker = Ticker(what, total, on)
        self._progress = Progress(
            TextColumn(what, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=on
        )
        self._task = self._progress.add_task(what, total=total, completed=done)
        self.view = Group(self._progress, *below)
        self._steady = steady
        self._live = Live(self.view, console=on, refresh_per_second=REFRESHES_PER_SECOND, auto_refresh=steady)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def step(self, done: int, more: str = "") -> None:
        """Moves the bar to `done`. A log line, where there is no terminal, ends with `more`."""
        self._progress.update(self._task, completed=done)
        if not self._steady and self.console.is_terminal:
            self._live.refresh()
        self.ticker.tick(done, more)
