"""A progress bar; without a terminal, a log line every ten seconds instead."""

from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from autolora.engine.terminal.console import console
from autolora.engine.terminal.ticker import Ticker, pace_words

REFRESHES_PER_SECOND = 4


class _Pace(ProgressColumn):
    """The column of a bar with steps per second and the time left."""

    def render(self, task: Task) -> Text:
        return Text(pace_words(task.finished_speed or task.speed, task.time_remaining), style="progress.remaining")


class Bar:
    """The progress bar of a task of `total` steps, shown inside `with`; `below` is drawn below it.

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
        self.console = on
        self.ticker = Ticker(what, total, on, done)
        self._progress = Progress(
            TextColumn(what, markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Pace(Column(no_wrap=True, overflow="ellipsis")),
            console=on,
        )
        self._task = self._progress.add_task(what, total=total, completed=done)
        self.view = Group(self._progress, *below)
        self._steady = steady
        self._live = Live(self.view, console=on, refresh_per_second=REFRESHES_PER_SECOND, auto_refresh=steady)

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def step(self, done: int, more: str = "") -> None:
        """Moves the bar to `done`. Without a terminal, the log line ends with `more`."""
        self._progress.update(self._task, completed=done)
        if not self._steady and self.console.is_interactive:
            self._live.refresh()
        self.ticker.tick(done, more)

    @property
    def total(self) -> int:
        """How many steps there are."""
        return self.ticker.total

    def grow(self, more: int) -> None:
        """Adds `more` steps to the total (below 0: removes some), where the work differs from what was planned."""
        self.ticker.total += more
        self._progress.update(self._task, total=self.total)
