"""The small picture of the ranks: a cell of its colour in its place for each layer."""

from __future__ import annotations

from PIL import Image

from engine.ranks.picture import rank_picture
from engine.report.curves import rank_colour


def places(picture: Image.Image, columns: int, rows: int) -> tuple[int, int]:
    """The left edge of the first cell, and the side of a cell; below the rows stands one line of names."""
    cell = picture.height // (rows + 1)
    return picture.width - 4 - cell * columns, cell


def corner(picture: Image.Image, column: int, row: int, size: tuple[int, int]) -> str:
    """The colour in the corner of a cell, where no digit is; `size`: columns and rows of the picture."""
    left, cell = places(picture, *size)
    pixel = picture.getpixel((left + cell * column + 1, cell * row + 1))
    assert isinstance(pixel, tuple)
    return "#" + bytes(pixel).hex()


def test_the_picture_has_a_cell_of_its_colour_for_each_rank() -> None:
    names = ["0.query", "0.value", "1.query", "1.value"]
    picture = rank_picture(names, [0, 3, 8, 5], 8)
    found = [corner(picture, block, row, (2, 2)) for block in (0, 1) for row in (0, 1)]
    assert found == [rank_colour(rank, 8) for rank in (0, 3, 8, 5)]
    assert len(set(found)) == 4


def test_where_a_block_lacks_a_projection_the_picture_is_white() -> None:
    picture = rank_picture(["0.query", "1.query", "1.value"], [8, 8, 8], 8)
    assert corner(picture, 0, 1, (2, 2)) == "#ffffff"
    assert corner(picture, 1, 1, (2, 2)) == rank_colour(8, 8)


def test_long_names_of_projections_have_room() -> None:
    short, long = (rank_picture([f"0.{name}"], [1], 8) for name in ("q", "a_projection_of_a_long_name"))
    assert long.width > short.width
    assert corner(long, 0, 0, (1, 1)) == rank_colour(1, 8)
    left, cell = places(long, 1, 1)
    right_of_text = long.crop((left - 5, 0, left, cell))
    assert right_of_text.getcolors() == [(5 * cell, (255, 255, 255))], "the name ends before the cell"
