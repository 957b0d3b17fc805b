"""What a tracker is sent of the answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from autolora.engine.answer.tracking import track
from autolora.engine.ranks.record import LayerRank, RankRecord
from autolora.engine.tracking import Tracker
from tests.helpers.evidence import evidence_of


class Kept(Tracker):
    """Keeps what it is sent."""

    alive = True

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.charts: dict[str, Any] = {}

    def log(self, values: Mapping[str, Any]) -> None:
        self.values |= values

    def lines(self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
        self.charts[key] = (list(steps), dict(curves))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        assert all(len(row) == len(columns) for row in rows)
        self.charts[key] = rows


LAYERS = (LayerRank("0.query", 2, layer_share=0.2), LayerRank("0.value", 1, layer_share=0.1))


def test_gain_shares_and_curve_are_sent() -> None:
    kept = Kept()
    track(RankRecord(8, LAYERS, evidence=evidence_of()), kept)
    assert kept.values["answer/gain"] == 0.2
    assert kept.values["answer/sufficient_rank"] == 2
    assert (kept.values["share/0_query"], kept.values["share/0_value"]) == (0.2, 0.1)
    steps, curves = kept.charts["answer/same_rank_in_every_layer"]
    assert steps == [1, 2, 4, 8]
    assert next(iter(curves.values()))[-1] == 1.0
    assert [row[0] for row in kept.charts["answer/curve"]][-1] == "budget 1 by shares"
    assert kept.charts["answer/shares"] == [["0.query", 2, 0.2, None], ["0.value", 1, 0.1, None]]


def test_where_no_rank_is_enough_none_is_sent() -> None:
    kept = Kept()
    track(RankRecord(8, LAYERS, evidence=evidence_of(gain=0.001)), kept)
    assert "answer/sufficient_rank" not in kept.values
    assert "answer/same_rank_in_every_layer" not in kept.charts, "of a gain that is noise there are no parts"
    track(RankRecord(8, LAYERS), other := Kept())
    assert other.values == {"answer/rank/0_query": 2, "answer/rank/0_value": 1, "answer/mean_rank": 1.5}
