"""The rank map in the terminal: below the bar of a search, and in the summary of a run."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from autolora.engine.ranks.grid import NOT_DECIDED, grid_of

MOST_LABEL = 24
# Marks for rank 0 and for eight heights; the second set is for consoles that print only ASCII.
_HEIGHTS, _ASCII = "·▁▂▃▄▅▆▇█", ".:-=+*x#@"
# Colour names, not numbers, as every terminal theme keeps the named colours readable on its background.
_COLOURS = ("bright_black", "blue", "cyan", "green", "yellow", "magenta")


class RankMap:
    """The rank map as text: a row for each projection, a column for each block of the model. `k`: the highest rank, as
    far as no layer has a higher one; ranks that no search chose may exceed it.

    Each cell shows its rank as a number if all cells are wide enough, else as a height; its colour shows the rank
    too. In a narrow terminal neighbouring blocks share a cell, and projections beyond `most_rows` share the last row;
    such cells show mean ranks.

    `undecided`: for each layer, whether its rank is undecided; empty if that is not known. The cell of an undecided
    layer is pale; without colours, a question mark follows its number. `note`: a line below the map.
    """

    def __init__(
        self,
        names: Sequence[str],
        k: int,
        ranks: Sequence[int] = (),
        most_rows: int | None = None,
        undecided: Sequence[bool] = (),
        note: str = "",
    ) -> None:
        self.k = k
        self.ranks = ranks
        self.undecided = undecided
        self.note = note
        self._grid = grid_of(names)
        self._labels = list(self._grid.projections)
        if most_rows is not None and len(self._labels) > most_rows:
            self._labels[most_rows - 1 :] = [f"{len(self._labels) - most_rows + 1} others, mean"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.ranks:
            return
        blocks, digits = self._grid.blocks, len(str(self._most))
        marks, cut = (_ASCII, "~") if options.ascii_only else (_HEIGHTS, "…")
        longest = max(5, min(MOST_LABEL, options.max_width // 3))
        # A label that is too long is cut at its start: the labels of one model differ at their ends.
        labels = [label if len(label) <= longest else f"{cut}{label[1 - longest :]}" for label in self._labels]
        left = max(map(len, ["block", *labels]))
        room = max(1, options.max_width - left - 1)
        shared = -(-len(blocks) // room)
        wide = max(1, min(room // len(blocks), digits + 2))
        numbers = wide > digits  # so that a space is left between neighbours
        if blocks != ["-"]:
            every = 1 + max(map(len, blocks)) // wide
            names = (block.ljust(wide * every) for block in blocks[:: every * shared])
            yield _line("block".rjust(left), Text("".join(names), style="bright_black"))
        coloured = console.color_system is not None and not console.no_color
        doubt, shown = "?" if numbers and not coloured else "", "" if numbers else marks
        unsure = self._means(shared, self.undecided or [False] * len(self.ranks)) > 0
        for label, means, doubts in zip(labels, self._means(shared, self.ranks), unsure, strict=True):
            cells = (
                self._cell(mean, wide, shown, doubt if d else None) for mean, d in zip(means, doubts, strict=True)
            )
            yield _line(label.rjust(left), *cells)
        if not numbers:
            scale = dict.fromkeys(round(i * self._most / 5) for i in range(6))
            end = f" {self._most}" + (f"   a cell: {shared} blocks" if shared > 1 else "")
            yield _line("rank".rjust(left), Text("0 "), *(self._cell(rank, 1, marks) for rank in scale), Text(end))
        if count := sum(self.undecided):
            which = "pale" if coloured else "with ?" if numbers else f"{count} of {len(self.undecided)} ranks"
            yield Text(f"{which}: {NOT_DECIDED}", style="bright_black")
        if self.note:
            yield Text(self.note, style="bright_black", no_wrap=True, overflow="ellipsis")

    @property
    def _most(self) -> int:
        """The rank at the end of the scale."""
        return max(self.k, *self.ranks)

    def _means(self, shared: int, values: Sequence[float]) -> np.ndarray:
        """Mean value of each cell [rows, columns], NaN for a cell without a layer; a column covers `shared` blocks."""
        sums = np.zeros((2, len(self._labels), -(-len(self._grid.blocks) // shared)))
        for (block, projection), value in zip(self._grid.cells, values, strict=True):
            sums[:, min(projection, len(self._labels) - 1), block // shared] += (value, 1)
        with np.errstate(invalid="ignore"):
            means: np.ndarray = sums[0] / sums[1]
        return means

    def _cell(self, rank: float, wide: int, marks: str, doubt: str | None = None) -> Text:
        """A cell of `wide` characters: a height, which is one of `marks`, or the number if `marks` is empty.

        `doubt`: for an undecided rank, the text after its number; None for a decided rank."""
        if np.isnan(rank):
            return Text(" " * wide)
        share = rank / self._most
        colour = _COLOURS[max(1, round(share * (len(_COLOURS) - 1))) if share else 0]
        style = colour if doubt is None else f"dim {colour}"
        if not marks:
            return Text((str(round(rank)).rjust(len(str(self._most))) + (doubt or "")).ljust(wide), style=style)
        mark = marks[max(1, round(share * (len(marks) - 1))) if share else 0]
        return Text((mark * max(1, wide - 1)).ljust(wide), style=style)


def _line(label: str, *cells: Text) -> Text:
    return Text(f"{label} ", no_wrap=True, overflow="crop").append_text(Text().join(cells))
