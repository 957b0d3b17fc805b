"""The picture of the ranks: a cell of its colour in its place for each layer, drawn in no time."""

from pathlib import Path

import pytest
from PIL import Image

from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.ranks.grid import pale, rank_colour
from autolora.engine.ranks.picture import CELL, GAP, MARGIN, rank_picture, save_picture


def colour(picture: Image.Image, x: float, y: float) -> str:
    pixel = picture.getpixel((round(x), round(y)))
    assert isinstance(pixel, tuple)
    return "#" + bytes(pixel).hex()


def corner(picture: Image.Image, column: int, row: int, left: int) -> str:
    """The colour in the corner of a cell, where no digit is."""
    return colour(picture, left + CELL * column + 1, 3 * MARGIN + CELL * row + 1)


def start_of_cells(picture: Image.Image, rank: int, k: int) -> int:
    """Where the first cell, which is of this rank, begins: at the first pixel of its colour."""
    return next(x for x in range(picture.width) if colour(picture, x, 3 * MARGIN + 1) == rank_colour(rank, k))


def test_the_picture_has_a_cell_of_its_colour_for_each_rank() -> None:
    picture = rank_picture(["0.query", "0.value", "1.query", "1.value"], [2, 3, 8, 5], 8)
    left = start_of_cells(picture, 2, 8)
    found = [corner(picture, block, row, left) for block in (0, 1) for row in (0, 1)]
    assert found == [rank_colour(rank, 8) for rank in (2, 3, 8, 5)]
    assert len(set(found)) == 4


def test_where_a_block_lacks_a_projection_the_picture_is_white() -> None:
    picture = rank_picture(["0.query", "1.query", "1.value"], [8, 8, 8], 8)
    left = start_of_cells(picture, 8, 8)
    assert corner(picture, 0, 1, left) == "#ffffff"
    assert corner(picture, 1, 1, left) == rank_colour(8, 8)


def test_the_bar_at_the_right_goes_from_0_to_k() -> None:
    picture = rank_picture(["0.query", "0.value"], [4, 4], 8)
    across = start_of_cells(picture, 4, 8) + CELL + MARGIN + 2
    shown = [colour(picture, across, y) for y in (3 * MARGIN, 3 * MARGIN + 2 * CELL - GAP)]
    assert shown == [rank_colour(8, 8), rank_colour(0, 8)]


def test_ranks_above_k_differ_in_colour_and_the_bar_goes_to_the_highest() -> None:
    picture = rank_picture(["0.query", "0.value"], [64, 128], 8)
    left = start_of_cells(picture, 64, 128)
    assert [corner(picture, 0, row, left) for row in (0, 1)] == [rank_colour(64, 128), rank_colour(128, 128)]
    assert picture.tobytes() == rank_picture(["0.query", "0.value"], [64, 128], 128).tobytes()


@pytest.mark.parametrize("name", ["0.a_projection_of_a_long_name", "a_long_stack_of.0.q"])
def test_long_names_have_room(name: str) -> None:
    short, long = (rank_picture([first, "b.0.q"], [1, 0], 8) for first in ("0.q", name))
    assert start_of_cells(long, 1, 8) > start_of_cells(short, 1, 8)
    margins = long.crop((0, 0, MARGIN // 2, long.height)), long.crop((long.width - MARGIN // 2, 0, *long.size))
    assert all(len(margin.getcolors() or ()) == 1 for margin in margins), "nothing is cut off"


def test_a_record_is_written_as_a_picture_of_its_ranks(tmp_path: Path) -> None:
    layers = (LayerRank("0.query", 3), LayerRank("1.query", 8))
    save_picture(RankRecord(8, layers, rule="budget"), tmp_path / "new" / "ranks.png")
    with Image.open(tmp_path / "new" / "ranks.png") as found:
        assert found.format == "PNG"
        assert (
            found.tobytes() == rank_picture(["0.query", "1.query"], [3, 8], 8, "ranks (budget), mean 5.50").tobytes()
        )


def test_a_rank_that_is_not_decided_is_pale_and_a_line_says_what_that_means() -> None:
    names, ranks = ["0.query", "0.value", "1.query"], [2, 3, 8]
    sure, doubted = rank_picture(names, ranks, 8), rank_picture(names, ranks, 8, undecided=[False, True, True])
    left = start_of_cells(doubted, 2, 8)
    found = [corner(doubted, *cell, left) for cell in ((0, 0), (0, 1), (1, 0))]
    assert found == [rank_colour(2, 8), pale(rank_colour(3, 8)), pale(rank_colour(8, 8))]
    assert doubted.height > sure.height, "the legend is below"
    assert rank_picture(names, ranks, 8, undecided=[False] * 3).tobytes() == sure.tobytes()


def test_a_record_tells_its_picture_what_is_not_decided(tmp_path: Path) -> None:
    alpha = (0.125,) * 8
    layers = (LayerRank("0.query", 3, alpha, decided=False), LayerRank("1.query", 8, alpha, decided=None))
    save_picture(RankRecord(8, layers), tmp_path / "ranks.png")
    with Image.open(tmp_path / "ranks.png") as found:
        title = "ranks (threshold), mean 5.50 of k = 8"
        wanted = rank_picture(["0.query", "1.query"], [3, 8], 8, title, [True, False])
        assert found.tobytes() == wanted.tobytes()
