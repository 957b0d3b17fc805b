"""The interactive charts carry the numbers, under the names by which the page finds them."""

from typing import Any

import numpy as np
import pytest
from bokeh.models import ColumnDataSource, HoverTool, Line, Scatter, Span

from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.ranks.grid import pale, rank_colour
from autolora.engine.report import charts
from autolora.engine.report.curves import SearchCurves


def record() -> RankRecord:
    alpha, size = (0.6, 0.4), (2.0, 1.0)
    names = {"b.0.query": 3, "b.0.value": 0, "b.1.query": 8}
    return RankRecord(8, tuple(LayerRank(n, r, alpha, size) for n, r in names.items()), threshold=0.125)


def drawn_as(made: Any, kind: type) -> list[Any]:
    return [renderer for renderer in made.renderers if isinstance(renderer.glyph, kind)]


def curves() -> SearchCurves:
    alpha = np.linspace(0, 1, 2 * 3 * 2).reshape(2, 3, 2)
    names = ["b.0.query", "b.0.value", "b.1.query"]
    return SearchCurves(names, np.array([0, 10]), alpha, 2 * alpha, np.array([[3, 0, 8], [3, 1, 8]]), np.full(3, 0.5))


def test_the_rank_map_puts_every_layer_in_its_place() -> None:
    source = charts.rank_map(record()).select_one({"name": "rank-cells"})
    cells = zip(*(source.data[key] for key in ("x", "y", "index", "layer", "rank")), strict=True)
    assert sorted(cells) == [(0, 0, 0, "b.0.query", 3), (0, 1, 1, "b.0.value", 0), (1, 0, 2, "b.1.query", 8)]


def test_a_rank_that_is_not_decided_is_pale_with_an_edge() -> None:
    layers = tuple(LayerRank(f"{i}.q", 8, decided=sure) for i, sure in enumerate((True, False, None)))
    made = charts.rank_map(RankRecord(8, layers))
    source = made.select_one({"name": "rank-cells"})
    dark = rank_colour(8, 8)
    assert source.data["colour"] == [dark, pale(dark), dark]
    assert source.data["ink"] == ["white", "black", "white"]
    assert source.data["edge"] == ["#00000000", charts.GREY, "#00000000"]
    assert source.data["decided"] == ["yes", "not decided within this search", ""]
    assert ("decided", "@decided") in made.select_one(HoverTool).tooltips
    assert ("decided", "@decided") not in charts.rank_map(record()).select_one(HoverTool).tooltips


def test_ranks_above_k_differ_in_colour() -> None:
    made = charts.rank_map(RankRecord(8, (LayerRank("0.q", 64), LayerRank("1.q", 128))))
    source = made.select_one({"name": "rank-cells"})
    assert source.data["colour"] == [rank_colour(64, 128), rank_colour(128, 128)]
    assert source.data["ink"] == ["black", "white"]


def test_a_click_on_the_map_shows_the_layer_by_its_name() -> None:
    source = charts.rank_map(record(), {"b.1.query": 0, "b.0.query": 1}).select_one({"name": "rank-cells"})
    assert dict(zip(source.data["layer"], source.data["index"], strict=True)) == {
        "b.0.query": 1, "b.0.value": -1, "b.1.query": 0,
    }  # fmt: skip


def test_curves_start_with_the_first_layer_in_the_range_of_all() -> None:
    made = charts.layer_curves("alpha", curves())
    source = made.select_one({"name": "alpha-curves"})
    assert source.data["c1"].tolist() == curves().alpha[:, 0, 1].tolist()
    assert made.y_range.start < 0
    assert made.y_range.end > 1
    assert made.select_one(Span).location == 0.5
    assert ("2", "@{c1}{0.0000}") in made.select_one(HoverTool).tooltips


def test_lambda_lies_within_the_chart_and_the_picture_has_the_same_limits() -> None:
    """Sigmoid gates that all stayed near 0.7 left lambda, 0.5, outside the chart of the page."""
    alpha = np.full((2, 1, 3), 0.7) + np.array([-0.02, 0.0, 0.02])
    found = SearchCurves(["0.q"], np.array([0, 8]), alpha, alpha, np.full((2, 1), 3), np.array([0.5]))
    made = charts.layer_curves("alpha", found)
    assert made.y_range.start < 0.5
    assert made.y_range.end > 0.72
    assert (made.y_range.start, made.y_range.end) == found.alpha_limits
    assert charts.layer_curves("contribution", found).y_range.start > 0.5


def test_the_evolution_has_a_box_for_each_stretch() -> None:
    source = charts.rank_evolution(curves(), 8).select_one({"name": "rank-stretches"})
    assert source.data["index"] == [0, 1, 1, 2]
    assert source.data["rank"] == [3, 0, 1, 8]
    assert source.data["layer"] == ["0 query", "0 value", "0 value", "1 query"]


def test_every_component_is_a_point() -> None:
    source = charts.contribution_against_alpha(record()).select_one({"name": "components"})
    assert source.data["contribution"] == [2.0, 1.0] * 3
    assert source.data["component"] == [1, 2] * 3


def test_a_diagnostic_that_nothing_knows_has_no_chart() -> None:
    """first_order has no implicit term: its ratio is 0, on a logarithmic axis nowhere."""
    lines = [{"step": 1, "ratio": 0.0, "cosine": None}]
    assert charts.metric_lines("r", "r", lines, {"ratio": ("r", "red")}, y_axis_type="log") is None
    assert charts.metric_lines("c", "c", lines, {"cosine": ("c", "red")}) is None
    made = charts.metric_lines("r", "r", lines, {"ratio": ("r", "red")})
    assert made is not None
    assert made.select_one(ColumnDataSource).data["ratio"].tolist() == [0.0]


@pytest.mark.parametrize("k", [1, 10, 20, 64])
def test_any_k_has_its_colours(k: int) -> None:
    values = np.zeros((1, 1, k))
    made = charts.layer_curves("alpha", SearchCurves(["0.q"], np.array([0]), values, values, None, None))
    assert len(drawn_as(made, Line)) == k


def test_a_single_point_is_a_dot() -> None:
    one = np.zeros((1, 1, 3))
    made = charts.layer_curves("alpha", SearchCurves(["0.q"], np.array([0]), one, one, None, None))
    assert len(drawn_as(made, Scatter)) == 3
    two = np.zeros((2, 1, 3))
    made = charts.layer_curves("alpha", SearchCurves(["0.q"], np.array([0, 8]), two, two, None, None))
    assert not drawn_as(made, Scatter)
