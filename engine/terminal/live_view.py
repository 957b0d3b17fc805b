"""The search as it goes: a bar, both losses and a heat row of ranks for each projection; plain lines without a
terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from engine.ranks.layer_names import grid_of
from engine.terminal.console import console as terminal

log = logging.getLogger("autolora")

# Bar, numbers, scale and these make 15 lines at the most.
MOST_ROWS, MOST_LABEL = 12, 24
REFRESHES_PER_SECOND = 4
SECONDS_BETWEEN_LINES = 10
_HEIGHTS = "▁▂▃▄▅▆▇█"
# Names and not numbers: the terminal's theme keeps them readable on its own background.
_COLOURS = ("bright_black", "blue", "cyan", "green", "yellow", "magenta")


class SearchProgress:
    """The live view of a search of `total` steps over the layers `names`, each of rank 0 to `k`."""

    def __init__(self, total: int, done: int, names: Sequence[str], k: int, console: Console | None = None) -> None:
        self.total = total
        self.console = console or terminal
        self.map = RankMap(names, k)
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("search"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=self.console
        )
        self._numbers = Text("", no_wrap=True, overflow="ellipsis")
        self._task = self._bar.add_task("search", total=total, completed=done)
        self._live = Live(
            Group(self._bar, self._numbers, self.map),
            console=self.console,
            refresh_per_second=REFRESHES_PER_SECOND,
        )

    def __enter__(self) -> SearchProgress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def step(self, step: int) -> None:
        """Moves the bar; it is drawn when the view is next refreshed."""
        self._bar.update(self._task, completed=step)

    def show(self, step: int, train_loss: float, val_loss: float | None, ranks: Sequence[int]) -> None:
        """New numbers."""
        val_text = "-" if val_loss is None else f"{val_loss:.3f}"
        text = f"L_tr {train_loss:.3f}  L_val {val_text}  mean rank {sum(ranks) / len(ranks):.2f}"
        self._numbers.plain = text
        self.map.ranks = list(ranks)
        if not self.console.is_terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            log.info("search %d/%d  %s", step, self.total, text)


class RankMap:
    """Ranks in blocks of text: a row for each projection, blocks of the model across, height and colour the rank.

    Where there is no room, neighbours share a cell that shows their mean: blocks in a narrow window, projections
    beyond MOST_ROWS.
    """

    def __init__(self, names: Sequence[str], k: int) -> None:
        self.k = k
        self.ranks: list[int] = []
        grid = grid_of(names)
        columns = {block: i for i, block in enumerate(grid.blocks)}
        self._labels = list(grid.projections)
        self._cells: list[list[tuple[int, int]]] = [[] for _ in grid.projections]
        self._columns = len(columns)
        rows = {projection: i for i, projection in enumerate(grid.projections)}
        for (block, projection), index in grid.place.items():
            self._cells[rows[projection]].append((columns[block], index))
        if len(self._labels) > MOST_ROWS:
            rest = self._cells[MOST_ROWS - 1 :]
            self._labels[MOST_ROWS - 1 :] = [f"{len(rest)} others, mean"]
            self._cells[MOST_ROWS - 1 :] = [[cell for row in rest for cell in row]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.ranks:
            return
        longest = max(4, min(MOST_LABEL, options.max_width // 3))
        labels = [label if len(label) <= longest else f"…{label[1 - longest :]}" for label in self._labels]
        left = max(map(len, labels)) + 1
        room = max(1, options.max_width - left)
        shared = -(-self._columns // room)
        wide = max(1, min(3, room // self._columns)) if shared == 1 else 1
        for label, cells in zip(labels, self._cells, strict=True):
            yield self._row(label.rjust(left - 1) + " ", cells, shared, wide)
        scale = Text(" " * left + "rank 0 ", style="bright_black", no_wrap=True, overflow="crop")
        for rank in dict.fromkeys(round(i * self.k / 5) for i in range(6)):
            scale.append_text(self._cell(rank, 1))
        yield scale.append(f" {self.k}" + (f"   a cell: {shared} blocks" if shared > 1 else ""))

    def _row(self, label: str, cells: Sequence[tuple[int, int]], shared: int, wide: int) -> Text:
        sums = [0.0] * -(-self._columns // shared)
        counts = [0] * len(sums)
        for column, index in cells:
            sums[column // shared] += self.ranks[index]
            counts[column // shared] += 1
        row = Text(label, no_wrap=True, overflow="crop")
        for total, count in zip(sums, counts, strict=True):
            row.append_text(self._cell(total / count, wide) if count else Text(" " * wide))
        return row

    def _cell(self, rank: float, wide: int) -> Text:
        share = min(1.0, rank / self.k)
        colour = _COLOURS[max(1, round(share * (len(_COLOURS) - 1))) if share else 0]
        mark = _HEIGHTS[max(0, round(share * len(_HEIGHTS)) - 1)] if share else "·"
        # A gap between wide cells keeps neighbours of one rank apart.
        return Text(mark * max(1, wide - 1) + " " * (wide > 1), style=colour)
