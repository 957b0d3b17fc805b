"""The rank map as a picture, as the paper's Figure 3 draws it."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from autolora.engine.ranks.record import RankRecord
from autolora.problems.models.names import grid_of


def rank_figure(names: Sequence[str], ranks: Sequence[int], k: int) -> Figure:
    """A column for each block of the model, a row for each projection.

    `k`: the rank at the end of the colours, as far as no layer has a higher one."""
    grid = grid_of(names)
    most = max(k, *ranks)
    shape = len(grid.projections), len(grid.blocks)
    wide = max(map(len, grid.blocks)) > 2
    size = (
        0.4 * shape[1] + 0.085 * max(map(len, grid.projections)) + 0.3,
        0.4 * shape[0] + 0.9 + 0.5 * wide,
    )
    figure = Figure(size, layout="constrained")
    axes = figure.add_subplot(xlabel="block")
    cells = np.full(shape, np.nan)
    for (column, row), rank in zip(grid.cells, ranks, strict=True):
        cells[row, column] = rank
        axes.text(
            column,
            row,
            str(rank),
            color="white" if rank > 0.5 * most else "black",
            ha="center",
            va="center",
        )
    axes.imshow(cells, cmap="YlGnBu", vmin=0, vmax=most)
    axes.set_xticks(range(shape[1]), grid.blocks, rotation=90 * wide)
    axes.set_yticks(range(shape[0]), grid.projections)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def rank_map(record: RankRecord) -> Figure:
    """The map of a record."""
    return rank_figure(list(record.ranks), list(record.ranks.values()), record.k)


def rank_picture(names: Sequence[str], ranks: Sequence[int], k: int) -> Image.Image:
    """The map as an image."""
    drawn = BytesIO()
    rank_figure(names, ranks, k).savefig(drawn, dpi=110, bbox_inches="tight")
    return Image.open(drawn)
