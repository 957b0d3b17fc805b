"""The rank map in the terminal: below the bar of a search, and in the summary of a run."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from autolora.problems.models.names import grid_of

# Colour names, not numbers, as every terminal theme keeps the named colours readable on its
# background.
_COLOURS = ("bright_black", "blue", "cyan", "green", "yellow", "magenta")


class RankMap:
    """The rank map as text: a row for each projection, a column for each block of the model.
    `k`: the highest rank, as far as no layer has a higher one; ranks that no search chose may
    exceed it."""

    def __init__(self, names: Sequence[str], k: int, ranks: Sequence[int] = ()) -> None:
        self.k = k
        self.ranks = ranks
        self._grid = grid_of(names)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.ranks:
            return
        room = options.overflow or "crop"  # the bar crops; what is printed is whole
        blocks = self._grid.blocks
        rows = self._grid.projections
        most = max(self.k, *self.ranks)
        left = max(map(len, ["block", *rows]))
        wide = 1 + max(map(len, [*blocks, str(most)]))
        head = "".join(f"{block:>{wide}}" for block in blocks)
        yield Text(f"{'block':>{left}}{head}", style="bright_black", no_wrap=True, overflow=room)
        at = dict(zip(self._grid.cells, self.ranks, strict=True))
        for row, name in enumerate(rows):
            line = Text(f"{name:>{left}}", no_wrap=True, overflow=room)
            for column in range(len(blocks)):
                rank = at.get((column, row))
                colour = _COLOURS[-(-(rank or 0) * (len(_COLOURS) - 1) // most)]
                line.append(f"{'' if rank is None else rank:>{wide}}", colour)
            yield line
