"""The rank map in the terminal: below the bar of a search, and in the summary of a run."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from autolora.problems.models.names import grid_of

_HEIGHTS = "·▁▂▃▄▅▆▇█"
"""Marks for rank 0 and for eight heights."""
# Colour names, not numbers, as every terminal theme keeps the named colours readable on its background.
_COLOURS = ("bright_black", "blue", "cyan", "green", "yellow", "magenta")


class RankMap:
    """The rank map as text: a row for each projection, a column for each block of the model. `k`: the highest rank, as
    far as no layer has a higher one; ranks that no search chose may exceed it.

    Each cell shows its rank as a number if there is room for it, else as a height; its colour shows the rank, too.
    """

    def __init__(self, names: Sequence[str], k: int, ranks: Sequence[int] = ()) -> None:
        self.k, self.ranks = k, ranks
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
        yield Text(f"{'block':>{left}} {head}", style="bright_black", no_wrap=True, overflow="crop")
        at = dict(zip(self._grid.cells, self.ranks, strict=True))
        for row, name in enumerate(rows):
            # A label that is too long is cut at its start: the labels of one model differ at their ends.
            line = Text(f"{name[-left:]:>{left}} ", no_wrap=True, overflow="crop")
            for column in range(len(blocks)):
                rank = at.get((column, row))
                if rank is None:
                    line.append(" " * wide)
                    continue
                mark, colour = (marks[-(-rank * (len(marks) - 1) // most)] for marks in (_HEIGHTS, _COLOURS))
                line.append((str(rank).rjust(digits) if wide > digits else mark).ljust(wide), colour)
            yield line
