"""The picture of the ranks: a cell of its colour in its place for each layer, with its number."""

import pytest

from autolora.engine.ranks.picture import rank_figure

NAMES = ["0.query", "0.value", "1.query"]


def test_a_cell_has_the_colour_of_its_rank_and_is_pale_if_the_rank_is_not_decided() -> None:
    (axes,) = rank_figure(NAMES, [2, 3, 8], 8, [False, True, False]).axes
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert texts == {(0, 0): ("2", "black"), (0, 1): ("3", "black"), (1, 0): ("8", "white")}
    cells = {(patch.get_x() + 0.5, patch.get_y() + 0.5): patch.get_facecolor() for patch in axes.patches}
    assert cells.keys() == texts.keys()
    assert [cells[place][3] for place in texts] == [1, pytest.approx(0.35), 1]


def test_ranks_grow_darker_and_one_by_hand_may_be_above_k() -> None:
    (axes,) = rank_figure([f"{i}.q" for i in range(5)], [0, 1, 2, 4, 64], 4).axes
    light = [sum(patch.get_facecolor()[:3]) for patch in axes.patches]
    assert light == sorted(light, reverse=True)
    assert light[0] > light[-1]
