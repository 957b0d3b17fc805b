"""The rank map as a picture, as the paper's Figure 3 draws it."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from autolora.engine.ranks.record import RankRecord
from autolora.problems.models.names import NOT_DECIDED, grid_of


def rank_figure(names: Sequence[str], ranks: Sequence[int], k: int, undecided: Sequence[bool] = ()) -> Figure:
    """A column for each block of the model, a row for each projection; the cell of an undecided layer is pale.

    `k`: the rank at the end of the colours, as far as no layer has a higher one."""
    grid, most = grid_of(names), max(k, *ranks)
    shape = len(grid.projections), len(grid.blocks)
    cells, opacity = np.full(shape, np.nan), np.ones(shape)
    wide = max(map(len, grid.blocks)) > 2
    size = 0.4 * shape[1] + 0.085 * max(map(len, grid.projections)) + 0.3, 0.4 * shape[0] + 0.9 + 0.5 * wide
    figure = Figure(size, layout="constrained")
    axes = figure.add_subplot(xlabel=f"block (pale: {NOT_DECIDED})" if any(undecided) else "block")
    for (column, row), rank, pale in zip(grid.cells, ranks, undecided or [False] * len(ranks), strict=True):
        cells[row, column], opacity[row, column] = rank, 0.35 if pale else 1.0
        colour = "white" if rank > 0.5 * most and not pale else "black"
        axes.text(column, row, str(rank), color=colour, ha="center", va="center")
    axes.imshow(cells, cmap="YlGnBu", vmin=0, vmax=most, alpha=opacity)
    axes.set_xticks(range(shape[1]), grid.blocks, rotation=90 * wide)
    axes.set_yticks(range(shape[0]), grid.projections)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def rank_map(record: RankRecord) -> Figure:
    """The map of a record."""
    return rank_figure(list(record.ranks), list(record.ranks.values()), record.k, record.undecided)


def rank_picture(names: Sequence[str], ranks: Sequence[int], k: int) -> Image.Image:
    """The map as an image."""
    drawn = BytesIO()
    rank_figure(names, ranks, k).savefig(drawn, dpi=110)
    return Image.open(drawn)
