"""The picture of the ranks: a cell of its colour in its place for each layer, with its number."""

from autolora.engine.tracking.picture import rank_figure


def test_a_cell_has_its_rank_in_its_place() -> None:
    (axes,) = rank_figure(["0.query", "0.value", "1.query"], [2, 3, 8], 8).axes
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert texts == {(0, 0): ("2", "black"), (0, 1): ("3", "black"), (1, 0): ("8", "white")}
    (image,) = axes.images
    assert image.get_array().filled(-1).tolist() == [[2, 8], [3, -1]]
    assert image.get_clim() == (0, 8)
    (axes,) = rank_figure(["0.q", "1.q"], [0, 64], 4).axes
    assert axes.images[0].get_clim() == (0, 64), "a rank by hand may be above k"
