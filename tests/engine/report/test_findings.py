"""The answer in words: what a person reads at the end of a search."""

from typing import Any

import pytest

from autolora.engine.measure.evidence import CurvePoint
from autolora.engine.ranks.record import LayerRank, RankRecord
from autolora.engine.report.findings import conclusion, kept_words, share_lines
from tests.helpers.evidence import evidence_of, point

LAYERS = tuple(
    LayerRank(
        name,
        1,
        layer_share=share,
        layer_share_standard_error=0.01,
        layer_part_standard_error=0.01 / 0.31,
    )
    for name, share in (
        ("layer.0.query", 0.03),
        ("layer.0.value", 0.155),
        ("layer.1.query", 0.0),
        ("layer.1.value", 0.125),
    )
)
OVERFITTED = CurvePoint(1, 0.29, 0.001, 1.2, 0.01, None, 0.0)
CONCLUSIONS: dict[str, dict[str, Any]] = {
    "rank 2 is enough: cut to it, the searched model loses at most 5 % of the gain": {},
    "90 rows are too few": {"rows": 90, "sources": 90},
    "its gain is 0.004 +- 0.01 nats": {"gain": 0.004},
    "no rank on the curve is enough": {"rank_curve": (point(8, 0.0, 0.02),)},
    # Rank k is compared with itself: "rank 8 is enough" had been the answer even at tolerance 0.
    "no rank below 8 (lora.k) is enough": {"rank_curve": (point(1, 0.1), point(8, 0.0, 0.0))},
    "loses at most 5 % of what the best rank gains": {
        "rank_curve": (OVERFITTED, point(8, 0.0, 0.0))
    },
}


def record_of(**changes: Any) -> RankRecord:
    return RankRecord(8, LAYERS, evidence=evidence_of(**changes))


@pytest.mark.parametrize("words", CONCLUSIONS)
def test_the_conclusion_names_the_rank_that_is_enough_and_what_it_may_lose(words: str) -> None:
    assert words in conclusion(record_of(**CONCLUSIONS[words]))
    assert conclusion(RankRecord(8, LAYERS)) == ""


@pytest.mark.parametrize(
    ("lost", "error", "words"),
    [
        (0.0, 0.0, "100 %"),
        (0.02, 0.002, "90 % (88 to 92)"),
        (0.25, 0.01, "nothing"),
        (0.19, 0.02, "5 % (0 to 21)"),
        (0.006, 0.00287, "97 % (94 to 99)"),  # 94.65: not the 95 that is enough
    ],
)
def test_what_is_kept_has_an_interval_and_less_than_nothing_is_nothing(
    lost: float, error: float, words: str
) -> None:
    assert kept_words(point(1, lost, error)) == words


def test_the_layers_come_by_falling_share_and_noise_is_only_counted() -> None:
    header, *lines = share_lines(record_of(), most=2)
    assert header.startswith("layer")
    assert lines[0].split() == ["0", "value", "50", "%", "+-", "3.2", "#" * 24]
    assert lines[1].split()[:3] == ["1", "value", "40"]
    assert lines[2].endswith("2 more layers, 1 of them without a share above noise")
    assert max(map(len, [header, *lines])) <= 78, (
        "a terminal has 80 columns, and cuts them after an indent of two"
    )
    assert list(share_lines(record_of(gain=0.0))) == []
