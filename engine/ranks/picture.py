"""The rank map as a small picture made in milliseconds: one every so often while a search goes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from engine.ranks.layer_names import grid_of
from engine.report.curves import rank_colour

_CELL, _GAP, _TEXT = 26, 2, 12


def rank_picture(names: Sequence[str], ranks: Sequence[int], k: int) -> Image.Image:
    """Ranks as the paper's Figure 3: blocks of the model across, projections down."""
    grid = grid_of(names)
    font = ImageFont.load_default(_TEXT)
    left = round(max(font.getlength(name) for name in grid.projections)) + 12
    size = (left + _CELL * len(grid.blocks) + 4, _CELL * (len(grid.projections) + 1))
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(grid.projections):
        draw.text((left - 6, _CELL * (row + 0.5)), name, "black", font, anchor="rm")
    for column, name in enumerate(grid.blocks):
        centre = left + _CELL * (column + 0.5)
        draw.text((centre, _CELL * (len(grid.projections) + 0.5)), name, "black", font, anchor="mm")
    for (block, projection), index in grid.place.items():
        x, y = left + _CELL * grid.blocks.index(block), _CELL * grid.projections.index(projection)
        rank = ranks[index]
        draw.rectangle((x, y, x + _CELL - _GAP, y + _CELL - _GAP), fill=rank_colour(rank, k))
        ink = "white" if rank > 0.5 * k else "black"
        draw.text((x + _CELL / 2 - 1, y + _CELL / 2 - 1), str(rank), ink, font, anchor="mm")
    return picture
