"""The rank map as a picture, as the paper's Figure 3 draws it."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from autolora.engine.ranks.grid import NOT_DECIDED, grid_of
from autolora.engine.ranks.record import RankRecord

_COLOURS = colormaps["YlGnBu"]
_CELL = 0.4
"""Inches of a cell."""
_LETTER = 0.085
"""Inches of a letter."""
_PALE = 0.35
"""The opacity of a cell whose rank is not decided."""


def rank_figure(names: Sequence[str], ranks: Sequence[int], k: int, undecided: Sequence[bool] = ()) -> Figure:
    """A column for each block of the model, a row for each projection. `k`: the rank at the end of the colours, as far
    as no layer has a higher one."""
    grid, most = grid_of(names), max(k, *ranks)
    width, height = len(grid.blocks), len(grid.projections)
    upright = max(map(len, grid.blocks)) > 2
    for_labels = _LETTER * max(map(len, grid.projections)), _LETTER * max(map(len, grid.blocks)) * upright
    figure = Figure((_CELL * width + for_labels[0] + 0.3, _CELL * height + for_labels[1] + 0.6), layout="constrained")
    label = f"block (pale: {NOT_DECIDED})" if any(undecided) else "block"
    axes = figure.add_subplot(xlabel=label, xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    for (column, row), rank, unsure in zip(grid.cells, ranks, undecided or [False] * len(ranks), strict=True):
        colour = (*_COLOURS(rank / most)[:3], _PALE if unsure else 1.0)
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
        dark = rank > 0.5 * most and not unsure
        axes.text(column, row, str(rank), color="white" if dark else "black", ha="center", va="center")
    axes.set_xticks(range(width), grid.blocks, rotation=90 * upright)
    axes.set_yticks(range(height), grid.projections)
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
