"""The rank map in the terminal: below the bar of a search, and in the summary of a run."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from autolora.engine.ranks.grid import NOT_DECIDED, grid_of

_HEIGHTS = "·▁▂▃▄▅▆▇█"
"""Marks for rank 0 and for eight heights."""
# Colour names, not numbers, as every terminal theme keeps the named colours readable on its background.
_COLOURS = ("bright_black", "blue", "cyan", "green", "yellow", "magenta")


class RankMap:
    """The rank map as text: a row for each projection, a column for each block of the model. `k`: the highest rank, as
    far as no layer has a higher one; ranks that no search chose may exceed it.

    Each cell shows its rank as a number if there is room for it, else as a height; its colour shows the rank, too, and
    that of an undecided layer is pale.
    """

    def __init__(
        self, names: Sequence[str], k: int, ranks: Sequence[int] = (), undecided: Sequence[bool] = ()
    ) -> None:
        self.k, self.ranks, self.undecided = k, ranks, undecided
        self._grid = grid_of(names)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.ranks:
            return
        blocks, rows, most = self._grid.blocks, self._grid.projections, max(self.k, *self.ranks)
        left = min(max(map(len, ["block", *rows])), options.max_width // 3)
        digits = len(str(most))
        wide = max(1, min((options.max_width - left - 1) // len(blocks), digits + 2))
        every = 1 + max(map(len, blocks)) // wide
        head = "".join(block.ljust(wide * every) for block in blocks[::every])
        lines = [Text(f"{'block':>{left}} {head}", style="bright_black", no_wrap=True, overflow="crop")]
        # A label that is too long is cut at its start: the labels of one model differ at their ends.
        lines += [Text(f"{row[-left:]:>{left}} ", no_wrap=True, overflow="crop") for row in rows]
        cells = {place: index for index, place in enumerate(self._grid.cells)}
        for column in range(len(blocks)):
            for row in range(len(rows)):
                index = cells.get((column, row))
                shown, style = (" ", "") if index is None else self._cell(index, most, digits if wide > digits else 0)
                lines[row + 1].append(shown.ljust(wide), style)
        yield from lines
        if any(self.undecided):
            yield Text(f"pale: {NOT_DECIDED}", style="bright_black")

    def _cell(self, index: int, most: int, digits: int) -> tuple[str, str]:
        """The rank as a number of so many digits, or as a height if there is no room for one, and its colour."""
        rank = self.ranks[index]
        mark, colour = (marks[-(-rank * (len(marks) - 1) // most)] for marks in (_HEIGHTS, _COLOURS))
        pale = "dim " if self.undecided and self.undecided[index] else ""
        return str(rank).rjust(digits) if digits else mark, pale + colour
