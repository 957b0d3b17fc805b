"""The picture of the ranks: a cell of its colour in its place for each layer, with its number."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.ranks.picture import ink_on, pale, rank_colour, rank_figure, save_picture

NAMES = ["0.query", "0.value", "1.query"]


def test_a_cell_has_the_colour_of_its_rank_and_is_pale_if_the_rank_is_not_decided() -> None:
    figure = rank_figure(NAMES, [2, 3, 8], 8, "ranks", [False, True, False])
    image = figure.axes[0].images[0].get_array()
    assert image is not None
    wanted = {(0, 0): rank_colour(2, 8), (1, 0): pale(rank_colour(3, 8)), (0, 1): rank_colour(8, 8), (1, 1): "white"}
    for place, colour in wanted.items():
        assert np.asarray(image[place]) == pytest.approx(to_rgb(colour))
    texts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert texts == {(0, 0): "2", (0, 1): "3", (1, 0): "8"}


def test_a_record_is_written_as_a_picture(tmp_path: Path) -> None:
    layers = tuple(LayerRank(name, rank) for name, rank in zip(NAMES, (3, 8, 64), strict=True))
    save_picture(RankRecord(8, layers), tmp_path / "new" / "ranks.png")
    with Image.open(tmp_path / "new" / "ranks.png") as found:
        assert (found.format, len(found.convert("RGB").getcolors(100_000) or ()) > 5) == ("PNG", True)


@pytest.mark.parametrize("k", [1, 4, 8, 30])
def test_ranks_differ_in_colour_and_grow_darker(k: int) -> None:
    colours = [to_rgb(rank_colour(rank, k)) for rank in range(k + 1)]
    assert len(set(colours)) == k + 1
    light = [0.3 * red + 0.6 * green + 0.1 * blue for red, green, blue in colours]
    assert light == sorted(light, reverse=True)
    assert rank_colour(2 * k, k) == rank_colour(k, k), "a rank by hand may be above k"


def test_numbers_can_be_read_on_their_colours() -> None:
    for rank in range(9):
        red, green, blue = to_rgb(rank_colour(rank, 8))
        assert ink_on(rank, 8) == ("black" if 0.3 * red + 0.6 * green + 0.1 * blue > 140 / 255 else "white")
