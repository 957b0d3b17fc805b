"""The numbers that the page shows of the answer are those of ranks.json, in percent and with their intervals."""

import dataclasses

import pytest

from autolora.engine.report.answer import answer_of
from tests.helpers.evidence import evidence_of
from tests.helpers.rank_records import answered_record


def test_shares_are_percent_of_all_with_90_percent_intervals() -> None:
    answer = answer_of(answered_record(), 400)
    assert answer is not None
    assert answer.unit == "%"
    assert answer.shares["short"].tolist() == ["0 query", "0 value", "1 query"]
    assert answer.shares["share"].tolist() == pytest.approx(
        [100 * 0.3 / 0.31, 100 * 0.011 / 0.31, -100 * 0.001 / 0.31]
    )
    assert answer.shares["low"].iloc[0] == pytest.approx(100 * (0.3 - 1.64 * 0.01) / 0.31)
    assert answer.shares["high"].iloc[0] == pytest.approx(100 * (0.3 + 1.64 * 0.01) / 0.31)
    assert answer.shares["seen"].tolist() == [True, False, False], "1.1 standard errors are noise"
    columns, rows = answer.tables["shares"]
    assert columns[1] == "share, %"
    assert [(row[0], row[-1]) for row in rows][:2] == [("encoder.0.query", "yes"), ("encoder.0.value", "no")]


def test_the_curve_is_percent_of_the_gain_over_parameters() -> None:
    answer = answer_of(answered_record(), 400)
    assert answer is not None
    everywhere, placed = answer.curve["the same rank everywhere"], answer.curve["placed by shares"]
    assert everywhere["parameters"].tolist() == [400, 800, 1600, 3200]
    assert everywhere["kept"].tolist() == pytest.approx([75, 96, 99.5, 100])
    assert everywhere["low"].iloc[0] == pytest.approx(75 - 1.64 * 0.5)
    assert placed["parameters"].tolist() == [100, 200, 400], "those that a budget really took"
    assert answer.wanted == 95
    _, rows = answer.tables["curve"]
    assert rows[1][:3] == ["rank 2 everywhere", "800", "0.3080"]
    assert rows[-1][:2] == ["placed by shares, mean 1", "400"]


def test_what_is_not_known_is_left_out() -> None:
    record = answered_record()
    assert answer_of(None, 400) is None
    assert answer_of(dataclasses.replace(record, evidence=None), 400) is None
    without_sizes = answer_of(record, 0)
    assert without_sizes is not None
    assert without_sizes.curve == {}
    assert without_sizes.tables["curve"][1][0][1] == ""
    nothing = answer_of(dataclasses.replace(record, evidence=evidence_of(gain=0.001, share_total=-0.1)), 400)
    assert nothing is not None
    assert nothing.curve == {}, "there is no gain to keep a part of"
    assert {row[-1] for row in nothing.tables["curve"][1]} == {""}
    assert not len(nothing.shares), "nor are there parts of it that a layer could have"
    shared = answer_of(dataclasses.replace(record, evidence=evidence_of(share_total=-0.1)), 400)
    assert shared is not None
    assert (shared.unit, len(shared.shares)) == ("nats", 3), "the head alone gains, and there is nothing to divide by"
    bare = dataclasses.replace(
        record, layers=tuple(dataclasses.replace(layer, layer_share=None) for layer in record.layers)
    )
    unshared = answer_of(bare, 400)
    assert unshared is not None
    assert not len(unshared.shares)
