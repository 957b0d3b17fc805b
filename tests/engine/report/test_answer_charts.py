"""The charts of the answer carry its numbers, under the names by which the page finds them."""

import dataclasses

from bokeh.models import LogScale, Span

from autolora.engine.report.answer import Answer, answer_of
from autolora.engine.report.answer_charts import OPAQUE, PALE, answer_charts, curve, rank_ticks, shares
from tests.helpers.evidence import evidence_of
from tests.helpers.rank_records import answered_record


def answer() -> Answer:
    made = answer_of(answered_record(), 400)
    assert made is not None
    return made


def test_every_layer_has_a_bar_pale_where_it_is_noise() -> None:
    source = shares(answer(), {"encoder.0.query": 2}).select_one({"name": "share-bars"})
    assert source.data["layer"] == ["encoder.0.query", "encoder.0.value", "encoder.1.query"]
    assert source.data["alpha"] == [OPAQUE, PALE, PALE]
    assert source.data["index"] == [2, -1, -1], "a click shows the curves of that layer"
    assert source.data["share"] == answer().shares["share"].tolist()


def test_all_of_an_interval_is_in_the_chart() -> None:
    made, found = shares(answer()), answer().shares
    assert made.x_range.start < min(0, found["low"].min())
    assert made.x_range.end > found["high"].max()


def test_the_curve_has_two_lines_and_marks_what_is_enough() -> None:
    made = curve(answer())
    assert isinstance(made.x_scale, LogScale)
    assert [item.label.value for item in made.legend[0].items] == ["the same rank everywhere", "placed by shares"]
    lines = [item.renderers[0].data_source.data for item in made.legend[0].items]
    assert [line["parameters"] for line in lines] == [[400, 800, 1600, 3200], [100, 200, 400]]
    assert made.select_one({"name": "enough"}).location == 95
    assert {span.location for span in made.select({"type": Span})} == {95, 1000}


def test_the_marks_of_the_axis_name_ranks_and_parameters() -> None:
    assert rank_ticks(answer()) == {
        100: "100\nrank 0.25", 200: "200\nrank 0.5", 400: "400\nrank 1", 800: "800\nrank 2",
        1600: "1.6k\nrank 4", 3200: "3.2k\nrank 8",
    }  # fmt: skip


def test_there_is_a_chart_for_what_was_measured() -> None:
    assert answer_charts(None, None) == {}
    assert list(answer_charts(answer(), None)) == ["shares", "curve"]
    nothing = answer_of(answered_record(evidence=evidence_of(gain=0.001)), 400)
    assert answer_charts(nothing, None) == {}
    assert list(answer_charts(dataclasses.replace(answer(), shares=answer().shares[:0]), None)) == ["curve"]
