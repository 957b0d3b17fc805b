"""The rank map as a picture, and its colours."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from autolora.engine.ranks.grid import NOT_DECIDED, grid_of
from autolora.engine.ranks.record import RankRecord

_COLOURS = colormaps["YlGnBu"]
_CELL = 0.45
"""Inches of a cell."""
_PALE = 0.35
"""How much of its colour a cell keeps whose rank is not decided."""


def rank_colour(rank: float, k: int) -> str:
    """The colour of a rank on every map: pale for 0, dark for k."""
    return to_hex(_COLOURS(min(1.0, rank / k)))


def ink_on(rank: float, k: int) -> str:
    """The colour of text that can be read on the colour of a rank."""
    return "white" if rank > 0.5 * k else "black"


def pale(colour: str) -> str:
    """A colour mixed with white, for a cell whose rank is not decided; black text can be read on it."""
    red, green, blue = (1 - _PALE * (1 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def rank_figure(names: Sequence[str], ranks: Sequence[int], k: int, title: str, undecided: Sequence[bool]) -> Figure:
    """The map as the paper's Figure 3 draws it: a column for each block, a row for each projection. `k`: the rank at
    the end of the colours, as far as no layer has a higher one."""
    grid, most = grid_of(names), max(k, *ranks)
    cells = np.ones((len(grid.projections), len(grid.blocks), 3))
    figure = Figure((_CELL * len(grid.blocks), _CELL * len(grid.projections)))
    label = f"block (pale: {NOT_DECIDED})" if any(undecided) else "block"
    axes = figure.add_axes((0, 0, 1, 1), title=title, xlabel=label)
    for (column, row), rank, unsure in zip(grid.cells, ranks, undecided or [False] * len(ranks), strict=True):
        colour = rank_colour(rank, most)
        cells[row, column] = to_rgb(pale(colour) if unsure else colour)
        ink = "black" if unsure else ink_on(rank, most)
        axes.text(column, row, str(rank), color=ink, ha="center", va="center")
    axes.imshow(cells)
    axes.set_xticks(range(len(grid.blocks)), grid.blocks, rotation=90 if max(map(len, grid.blocks)) > 2 else 0)
    axes.set_yticks(range(len(grid.projections)), grid.projections)
    return figure


def rank_picture(names: Sequence[str], ranks: Sequence[int], k: int, title: str) -> Image.Image:
    """The rank map as an image."""
    drawn = BytesIO()
    rank_figure(names, ranks, k, title, ()).savefig(drawn, bbox_inches="tight")
    return Image.open(drawn)


def save_picture(record: RankRecord, path: Path) -> None:
    """Writes the rank map of a record as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names, title = [layer.name for layer in record.layers], f"ranks ({record.rule}), mean {record.mean_in_words}"
    figure = rank_figure(names, list(record.ranks.values()), record.k, title, record.undecided)
    figure.savefig(path, dpi=150, bbox_inches="tight")
