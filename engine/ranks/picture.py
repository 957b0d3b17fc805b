"""The rank map as a picture. Pillow draws it in milliseconds; a search sends about 20 of these pictures to wandb."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from autolora.engine.ranks.grid import NOT_DECIDED, grid_of, ink_on, pale, rank_colour
from autolora.engine.ranks.record import RankRecord

# Sizes in pixels. Pages show the picture smaller, so that it is sharp on screens of high resolution too.
CELL, GAP, MARGIN, BAR = 52, 3, 20, 24
EDGE = "#888888"
_font = cache(ImageFont.load_default)


def rank_picture(
    names: Sequence[str], ranks: Sequence[int], k: int, title: str = "ranks", undecided: Sequence[bool] = ()
) -> Image.Image:
    """Draws ranks as the paper's Figure 3 does: a column per block, a row per projection.

    `k`: the rank at the end of the colours, as far as no layer has a higher one; ranks that no search chose may.
    `undecided`: for each layer whether its rank is undecided, which makes its cell pale; empty: none is undecided.
    """
    grid, font, large = grid_of(names), _font(20), _font(24)
    most = max(k, *ranks)
    # The names of the blocks are centred below their columns, and a long first name begins left of its column.
    widest = max(font.getlength(f"{name} ") for name in grid.blocks)
    left = 2 * MARGIN + round(max(widest / 2 - CELL, *(font.getlength(name) for name in grid.projections)))
    top = 3 * MARGIN
    right, bottom = left + CELL * len(grid.blocks), top + CELL * len(grid.projections)
    end = right + 2 * MARGIN + BAR + round(font.getlength(f" {most}"))
    legend = f"pale: {NOT_DECIDED}" if any(undecided) else ""
    wide = max(end, *(MARGIN + round(letters.getlength(text)) for letters, text in ((large, title), (font, legend))))
    size = (MARGIN + wide, bottom + (6 if legend else 4) * MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 1.5 * MARGIN), title, "black", large, anchor="lm")
    for row, name in enumerate(grid.projections):
        draw.text((left - MARGIN / 2, top + CELL * (row + 0.5)), name, "black", font, anchor="rm")
    for column in range(0, len(grid.blocks), 1 + round(widest) // CELL):
        centre = left + CELL * (column + 0.5)
        draw.text((centre, bottom + MARGIN), grid.blocks[column], "black", font, anchor="mm")
    draw.text(((left + right) / 2, bottom + 2.7 * MARGIN), "block", "black", font, anchor="mm")
    draw.text((MARGIN, bottom + 4.7 * MARGIN), legend, "black", font, anchor="lm")
    for (column, row), rank, unsure in zip(grid.cells, ranks, undecided or [False] * len(ranks), strict=True):
        x, y = left + CELL * column, top + CELL * row
        colour, ink = rank_colour(rank, most), ink_on(rank, most)
        fill, ink, edge = (pale(colour), "black", EDGE) if unsure else (colour, ink, colour)
        draw.rectangle((x, y, x + CELL - GAP, y + CELL - GAP), fill, edge)
        draw.text((x + CELL / 2 - 1, y + CELL / 2 - 1), str(rank), ink, font, anchor="mm")
    _draw_colours(draw, (right + MARGIN, top, right + MARGIN + BAR, bottom - GAP), most)
    return picture


def _draw_colours(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], k: int) -> None:
    """The bar of colours at the right, from rank k at its top to rank 0 at its bottom."""
    left, top, right, bottom = box
    for y in range(top, bottom + 1):
        draw.line((left, y, right, y), fill=rank_colour(k * (bottom - y) / (bottom - top), k))
    for y, rank, anchor in ((top, k, "lt"), (bottom, 0, "lb")):
        draw.text((right, y), f" {rank}", "black", _font(20), anchor=anchor)
    draw.text(((left + right) / 2, bottom + MARGIN), "rank", "black", _font(20), anchor="mm")


def save_picture(record: RankRecord, path: Path) -> None:
    """Writes the rank map of a record as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = record.layers
    title, names, found = f"ranks ({record.rule})", [x.name for x in layers], [x.rank for x in layers]
    rank_picture(names, found, record.k, f"{title}, mean {record.mean_in_words}", record.undecided).save(path)
