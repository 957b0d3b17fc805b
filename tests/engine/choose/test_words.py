"""The answer in words: what a person reads at the end of a search."""

import dataclasses
from typing import Any

import pytest

from autolora.engine.choose.words import (
    caution,
    conclusion,
    curve_lines,
    gain_words,
    how_chosen,
    kept_words,
    longer_may_help,
    parts_words,
    seen_layers,
    share_lines,
)
from autolora.engine.measure.evidence import CurvePoint
from autolora.engine.ranks.record import BY_CURVE, LayerRank, RankRecord
from tests.helpers.evidence import evidence_of, point

LAYERS = tuple(
    LayerRank(
        f"layer.{block}.{name}",
        1,
        layer_share=share,
        layer_share_standard_error=0.01,
        layer_part_standard_error=0.01 / 0.31,
    )
    for block, name, share in ((0, "query", 0.03), (0, "value", 0.155), (1, "query", 0.0), (1, "value", 0.125))
)
RECORD = RankRecord(8, LAYERS, evidence=evidence_of())


def test_the_conclusion_names_the_rank_that_is_enough_and_what_it_may_lose() -> None:
    assert conclusion(RECORD) == "rank 2 is enough: cut to it, the searched model loses at most 5 % of the gain"
    few = dataclasses.replace(RECORD, evidence=evidence_of(rows=90, sources=90))
    assert conclusion(few).endswith("though 90 rows are too few for a sure answer (200 are needed)")
    nothing = dataclasses.replace(RECORD, evidence=evidence_of(gain=0.004))
    assert conclusion(nothing).startswith(
        "LoRA has not learned anything that shows on D_val: its gain is 0.004 +- 0.010"
    )
    assert conclusion(nothing).endswith(" nats")
    easy = dataclasses.replace(RECORD, evidence=evidence_of(gain=0.004, loss=0.01))
    assert conclusion(easy).endswith(" nats; the head alone already solves this task; LoRA is not needed")
    unsure = dataclasses.replace(RECORD, evidence=evidence_of(rank_curve=(point(8, 0.0, 0.02),)))
    assert conclusion(unsure) == "no rank on the curve is enough: each may lose more than 5 % of the gain"
    assert conclusion(RankRecord(8, LAYERS)) == ""


SLIGHT = {"loss": 10.8, "gain": 0.0004, "gain_standard_error": 0.0001}


def test_a_gain_that_is_sure_but_slight_is_a_doubt() -> None:
    """After four steps of a search "rank 1 is enough" had been said without one."""
    curve = (point(1, 0.0), point(8, 0.0, 0.0))
    at_rest = tuple(dataclasses.replace(one, loss=10.8, standard_error=0.0) for one in curve)
    slight = evidence_of(**SLIGHT, rank_curve=at_rest)
    record = dataclasses.replace(RECORD, evidence=slight)
    doubt = "LoRA lowers the loss on D_val by less than 1 %; a longer search may change the answer"
    assert conclusion(record) == (
        f"rank 1 is enough: cut to it, the searched model loses at most 5 % of the gain, though {doubt}"
    )
    few = dataclasses.replace(record, evidence=dataclasses.replace(slight, rows=90, sources=90))
    assert conclusion(few).endswith(f", though 90 rows are too few for a sure answer (200 are needed), and {doubt}")
    lossy = (dataclasses.replace(at_rest[0], kept=0.5), dataclasses.replace(at_rest[1], kept_standard_error=0.1))
    none = dataclasses.replace(record, evidence=dataclasses.replace(slight, rank_curve=lossy))
    assert (
        conclusion(none) == f"no rank on the curve is enough: each may lose more than 5 % of the gain, though {doubt}"
    )


def test_a_longer_search_is_not_advised_where_it_would_not_help() -> None:
    solved = evidence_of(loss=0.04, gain=0.0003, gain_standard_error=0.0001)
    words = conclusion(dataclasses.replace(RECORD, evidence=solved))
    assert words.endswith(
        ", though LoRA lowers the loss on D_val by less than 1 %; the head alone already solves this task; LoRA is "
        "not needed"
    )
    cut = (CurvePoint(1, 10.79, 0.0001, 1.5, 20.0, 0.1, None, 0.0), CurvePoint(8, 10.8, 0.0, 1.5, 1.0, 0.0))
    better = evidence_of(**SLIGHT, rank_curve=cut)
    words = conclusion(dataclasses.replace(RECORD, evidence=better))
    assert words.endswith("the searched model is over-fitted, and LoRA lowers the loss on D_val by less than 1 %")
    assert [longer_may_help(one) for one in (solved, better, evidence_of())] == [""] * 3
    assert longer_may_help(evidence_of(**SLIGHT)) == "LoRA lowers the loss on D_val by less than 1 %"
    assert longer_may_help(evidence_of(gain=0.004)) == "LoRA has not learned anything that shows on D_val"


def test_that_a_training_may_need_more_is_said_where_a_rank_is_named() -> None:
    assert caution(RECORD) == "a training may need a higher rank"
    unsure = dataclasses.replace(RECORD, evidence=evidence_of(rank_curve=(point(8, 0.0, 0.02),)))
    largest = dataclasses.replace(RECORD, evidence=evidence_of(rank_curve=(point(1, 0.1), point(8, 0.0, 0.0))))
    nothing = dataclasses.replace(RECORD, evidence=evidence_of(gain=0.004))
    assert [caution(record) for record in (unsure, largest, nothing, RankRecord(8, LAYERS))] == [""] * 4


def test_that_only_the_largest_rank_passes_says_nothing_of_higher_ones() -> None:
    """It is compared with itself; "rank 8 is enough" had been the answer even at tolerance 0."""
    curve = (point(1, 0.1), point(8, 0.0, 0.0))
    record = RankRecord(8, LAYERS, evidence=evidence_of(rank_curve=curve))
    assert conclusion(record) == (
        "no rank below 8 (lora.k) is enough: each may lose more than 5 % of the gain, and a rank above 8 may keep more"
    )
    alone = RankRecord(1, LAYERS, evidence=evidence_of(rank_curve=(point(1, 0.0, 0.0),)))
    assert conclusion(alone) == "rank 1 is the only rank that was searched (lora.k)"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"rule": "shares", "budget": 4000},
            "by shares, within 4,000 LoRA parameters (as many as rank 2 in every layer)",
        ),
        ({"rule": "size", "budget": 500}, "by size, within 500 LoRA parameters (as many as rank 0.25 in every layer)"),
        ({"rule": "shares"}, "by shares, without a budget"),
        ({"threshold": 0.125}, "by the paper's rule (components whose alpha reaches lambda = 0.125)"),
        ({"constraint": "none"}, "by the paper's rule (components whose alpha reaches the threshold)"),
        ({"rule": BY_CURVE, "note": "rank 1 in every layer is enough"}, ""),
        ({"rule": "shares", "note": "no component has a share above 0: every layer has rank 1"}, ""),
    ],
)
def test_the_rule_and_the_budget_are_told_unless_the_note_tells_them(changes: dict[str, Any], words: str) -> None:
    searched = tuple(dataclasses.replace(layer, alpha=(0.125,) * 8) for layer in LAYERS)
    assert how_chosen(RankRecord(8, searched, **changes), 2000) == words
    assert how_chosen(RankRecord(8, LAYERS, **changes), 2000) == "", "a record written by hand"


def test_the_gain_is_told_from_what_it_is_counted() -> None:
    assert gain_words(evidence_of()) == "LoRA lowers the loss on D_val from 0.500 (head alone) to 0.300."
    worse = evidence_of(gain=-0.1, without="LoRA off")
    assert gain_words(worse) == "LoRA raises the loss on D_val from 0.200 (LoRA off) to 0.300."
    assert gain_words(evidence_of(loss=-1e-7, gain=0.2)).endswith(" from 0.200 (head alone) to 0.000.")


@pytest.mark.parametrize(
    ("loss", "gain", "words"),
    [
        (10.8046, 0.0004, "lowers the loss on D_val from 10.8050 (head alone) to 10.8046."),  # 10.805 to 10.805
        (10.8044, 0.0002, "lowers the loss on D_val from 10.8046 (head alone) to 10.8044."),  # 10.805 to 10.804
        (10.8038, 0.0006, "lowers the loss on D_val from 10.8044 (head alone) to 10.8038."),
        (10.8, -0.00001, "raises the loss on D_val from 10.79999 (head alone) to 10.80000."),
        (10.8, 1e-9, "leaves the loss on D_val at 10.800 (head alone)."),
    ],
)
def test_a_small_gain_has_as_many_decimals_as_show_it(loss: float, gain: float, words: str) -> None:
    assert gain_words(evidence_of(loss=loss, gain=gain)) == f"LoRA {words}"


def test_small_numbers_of_a_gain_that_is_noise_are_shown() -> None:
    noise = dataclasses.replace(RECORD, evidence=evidence_of(gain=0.0001, gain_standard_error=0.0002))
    assert conclusion(noise).endswith("its gain is 0.0001 +- 0.0002 nats")
    assert "falls by 0.0002 nats" in parts_words(evidence_of(fall=0.0002))


@pytest.mark.parametrize(
    ("lost", "error", "words"),
    [
        (0.0, 0.0, "100 %"),
        (0.02, 0.002, "90 % (88 to 92)"),
        (0.25, 0.01, "nothing"),
        (0.19, 0.02, "5 % (0 to 21)"),
        (0.006, 0.00287, "97 % (94 to 99)"),  # 94.65: not the 95 that is enough
        (0.0, 0.00004, "100 % (100 to 100)"),
    ],
)
def test_what_is_kept_has_an_interval_and_less_than_nothing_is_nothing(lost: float, error: float, words: str) -> None:
    assert kept_words(point(1, lost, error)) == words


def test_the_layers_come_by_falling_share_and_noise_is_only_counted() -> None:
    assert [name for name, _ in seen_layers(RECORD)] == ["0 value", "1 value", "0 query"]
    header, *lines = share_lines(RECORD, most=2)
    assert header.startswith("layer")
    assert lines[0].split() == ["0", "value", "50", "%", "+-", "3", "#" * 24]
    assert lines[1].split()[:3] == ["1", "value", "40"]
    assert lines[2].endswith("1 more layer; 1 layer has no share above noise")
    assert " ".join(lines[3:]) == (
        "(from the head alone to the searched model the loss falls by 0.202 nats if both have one temperature; 153 % "
        "of this is LoRA's, -53 % the head's)"
    )
    without_head = dataclasses.replace(RECORD, evidence=evidence_of(without="LoRA off"))
    assert list(share_lines(without_head, most=2)) == [header, *lines[:3]], "then there is nothing to divide"
    assert list(share_lines(dataclasses.replace(RECORD, evidence=evidence_of(share_total=-0.1)))) == []
    assert list(share_lines(dataclasses.replace(RECORD, evidence=evidence_of(gain=0.0)))) == []
    noise = tuple(dataclasses.replace(layer, layer_share=0.01) for layer in LAYERS)
    assert list(share_lines(dataclasses.replace(RECORD, layers=noise))) == ["no layer has a share above noise"]


def test_the_table_of_shares_fits_a_terminal_of_80_columns() -> None:
    """Its lines are cut there, after an indent of two; these are the longest names of a usual encoder."""
    names = ("0.query", "0.output.dense", "0.attention.output.dense", "1.attention.output.dense")
    layers = tuple(
        LayerRank(f"bert.encoder.layer.{name}", 1, layer_share=0.1, layer_share_standard_error=0.01) for name in names
    )
    lines = list(share_lines(dataclasses.replace(RECORD, layers=layers)))
    assert any(line.startswith("0 attention.output.dense ") for line in lines)
    assert max(map(len, lines)) <= 78


def test_the_curve_is_told_where_there_is_a_gain() -> None:
    ranks, budgets = curve_lines(RECORD)
    assert ranks.startswith("rank 1 everywhere keeps 75 % (74 to 76) of that, rank 2 96 %")
    assert budgets.startswith(
        "placed by shares, an average rank of 0.25 (100 parameters) keeps 50 % (41 to 58), 0.5 (200"
    )
    assert list(curve_lines(dataclasses.replace(RECORD, evidence=evidence_of(gain=0.0)))) == []


@pytest.mark.parametrize(
    ("lost", "error", "surely"), [(-0.02, 0.001, True), (-0.02, 0.02, False), (-0.001, 0.0, False)]
)
def test_a_lower_rank_that_does_better_is_explained(lost: float, error: float, surely: bool) -> None:
    record = dataclasses.replace(RECORD, evidence=evidence_of(rank_curve=(point(1, lost, error), point(8, 0.0, 0.0))))
    assert any("the searched model is over-fitted" in line for line in curve_lines(record)) == surely
    assert conclusion(record).endswith(", though the searched model is over-fitted") == surely
    assert ("5 % of what the best rank gains, though" in conclusion(record)) == surely
    few = dataclasses.replace(record, evidence=dataclasses.replace(record.evidence or evidence_of(), sources=90))
    assert conclusion(few).endswith(", and the searched model is over-fitted") == surely


def test_ranks_are_compared_with_the_whole_model_where_only_a_budget_does_better() -> None:
    """It said "of what the best rank gains", although rank 2 was compared with rank k."""
    better = (point(0.5, -0.02, 0.001, 200),)
    record = dataclasses.replace(RECORD, evidence=evidence_of(budget_curve=better))
    assert conclusion(record) == (
        "rank 2 is enough: cut to it, the searched model loses at most 5 % of the gain, though the searched model is "
        "over-fitted"
    )
