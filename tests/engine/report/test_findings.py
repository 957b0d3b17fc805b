"""The answer in words: what a person reads at the end of a search."""

import dataclasses
from typing import Any

import pytest

from autolora.engine.measure.evidence import CurvePoint
from autolora.engine.ranks.record import BY_CURVE, LayerRank, RankRecord, steadiness
from autolora.engine.report.findings import (
    caution,
    conclusion,
    curve_lines,
    gain_words,
    how_chosen,
    kept_words,
    share_lines,
)
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


def record_of(**changes: Any) -> RankRecord:
    return RankRecord(8, LAYERS, evidence=evidence_of(**changes))


OVERFITTED = CurvePoint(1, 0.29, 0.001, 1.5, 1.2, 0.01, None, 0.0)
CONCLUSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "enough": ({}, "rank 2 is enough: cut to it, the searched model loses at most 5 % of the gain"),
    "few rows": ({"rows": 90, "sources": 90}, ", though 90 rows are too few for a sure answer (200 are needed)"),
    "nothing learned": ({"gain": 0.004}, "LoRA has not learned anything that shows on D_val: its gain is 0.004 +- 0.01"
                        " nats"),
    "unsure": ({"rank_curve": (point(8, 0.0, 0.02),)}, "no rank on the curve is enough: each may lose more than 5 % "
               "of the gain"),
    # Rank k is compared with itself: "rank 8 is enough" had been the answer even at tolerance 0.
    "only rank k": ({"rank_curve": (point(1, 0.1), point(8, 0.0, 0.0))}, "no rank below 8 (lora.k) is enough, and a "
                    "rank above 8 may keep more"),
    "over-fitted": ({"rank_curve": (OVERFITTED, point(8, 0.0, 0.0))}, "rank 1 is enough: cut to it, the searched "
                    "model loses at most 5 % of what the best rank gains"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONCLUSIONS)
def test_the_conclusion_names_the_rank_that_is_enough_and_what_it_may_lose(case: str) -> None:
    changes, words = CONCLUSIONS[case]
    assert conclusion(record_of(**changes)).endswith(words)
    assert conclusion(RankRecord(8, LAYERS)) == ""


def test_that_a_training_may_need_more_is_said_where_a_rank_is_named() -> None:
    assert caution(record_of()) == "a training may need a higher rank"
    largest = record_of(rank_curve=(point(1, 0.1), point(8, 0.0, 0.0)))
    assert [caution(record) for record in (largest, record_of(gain=0.004), RankRecord(8, LAYERS))] == [""] * 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"rule": "shares", "budget": 4000},
            "by shares, within 4,000 LoRA parameters (as many as rank 2 in every layer)",
        ),
        ({"rule": "size"}, "by size, without a budget"),
        ({"threshold": 0.125}, "by the paper's rule (components whose alpha reaches lambda = 0.125)"),
        ({"rule": BY_CURVE, "note": "rank 1 in every layer is enough"}, ""),
    ],
)
def test_the_rule_and_the_budget_are_told_unless_the_note_tells_them(changes: dict[str, Any], words: str) -> None:
    searched = tuple(dataclasses.replace(layer, alpha=(0.125,) * 8) for layer in LAYERS)
    assert how_chosen(RankRecord(8, searched, **changes), 2000) == words
    assert how_chosen(RankRecord(8, LAYERS, **changes), 2000) == "", "a record written by hand"


def test_how_many_ranks_are_decided_is_told_for_the_threshold_alone() -> None:
    sure = tuple(dataclasses.replace(layer, decided=place > 0) for place, layer in enumerate(LAYERS))
    assert steadiness(RankRecord(8, sure)).startswith("3 of 4 ranks are decided within this search")
    assert steadiness(RankRecord(8, LAYERS)) == ""


def test_the_gain_is_told_from_what_it_is_counted() -> None:
    assert gain_words(evidence_of()) == "LoRA lowers the loss on D_val from 0.500 (head alone) to 0.300."
    worse = evidence_of(gain=-0.1, without="LoRA off")
    assert gain_words(worse) == "LoRA raises the loss on D_val from 0.200 (LoRA off) to 0.300."


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
    header, *lines = share_lines(record_of(), most=2)
    assert header.startswith("layer")
    assert lines[0].split() == ["0", "value", "50", "%", "+-", "3.2", "#" * 24]
    assert lines[1].split()[:3] == ["1", "value", "40"]
    assert lines[2].endswith("2 more layers, 1 of them without a share above noise")
    assert " ".join(lines[3:]) == (
        "(from the head alone to the searched model the loss falls by 0.202 nats if both have one temperature; 153 % "
        "of this is LoRA's, -53 % the head's)"
    )
    assert max(map(len, [header, *lines])) <= 78, "a terminal has 80 columns, and cuts them after an indent of two"
    assert list(share_lines(record_of(without="LoRA off"), most=2)) == [header, *lines[:3]]
    assert list(share_lines(record_of(gain=0.0))) == []


def test_the_curve_is_told_where_there_is_a_gain() -> None:
    ranks, budgets = curve_lines(record_of())
    assert ranks.startswith("rank 1 everywhere keeps 75 % (74 to 76) of that, rank 2 96 %")
    assert budgets.startswith(
        "placed by shares, an average rank of 0.25 (100 parameters) keeps 50 % (41 to 58), 0.5 (200"
    )
    assert list(curve_lines(record_of(gain=0.0))) == []
    over = record_of(rank_curve=(OVERFITTED, point(8, 0.0, 0.0)))
    assert any("the searched model is over-fitted" in line for line in curve_lines(over))
