"""Scores of layers, read from the ranks.json of searches."""

from pathlib import Path

import pytest

from benchmarks.places.scores import scores_of
from configs.errors import UserError
from engine import ranks
from engine.ranks import LayerRank, RankRecord

NAMES = ["a.0.query", "a.1.query"]


def searched(root: Path, first: float) -> Path:
    def layer(name: str, much: float) -> LayerRank:
        return LayerRank(
            name, 1, alpha=(0.6, 0.4), contribution=(0.1, much), singular_values=(much, 0.1), share=(0.2, much),
            share_standard_error=(0.1, 0.1), layer_share=0.2 + much, layer_share_standard_error=0.1,
        )  # fmt: skip

    ranks.save(RankRecord(2, (layer(NAMES[0], first), layer(NAMES[1], 0.5)), rule="shares"), root / "ranks.json")
    return root


def test_scores_of_several_searches_are_their_mean_in_the_order_of_the_trainings(tmp_path: Path) -> None:
    folders = [searched(tmp_path / "a", 1.0), searched(tmp_path / "b", 3.0)]
    found = scores_of(folders, NAMES[::-1])
    assert found["share of the largest component"].tolist() == [0.5, 2.0]
    assert found["share of the layer"].tolist() == [0.7, 2.2]
    assert found["size: the largest singular value, squared"].tolist() == [0.25, 5.0]
    assert found["contribution: the largest alpha |B| |A|"].tolist() == [0.5, 2.0]
    assert found["rank by the paper's threshold"].tolist() == [1.0, 1.0]


def test_ranks_without_measurements_are_a_score_of_their_own(tmp_path: Path) -> None:
    record = RankRecord(8, (LayerRank(NAMES[0], 3), LayerRank(NAMES[1], 0)), rule="eva")
    ranks.save(record, tmp_path / "ranks.json")
    assert {name: own.tolist() for name, own in scores_of([tmp_path], NAMES).items()} == {"rank by eva": [3.0, 0.0]}


def test_a_run_without_ranks_or_with_other_layers_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no ranks\.json"):
        scores_of([tmp_path], NAMES)
    searched(tmp_path, 1.0)
    with pytest.raises(UserError, match="its layers are not those of the trainings"):
        scores_of([tmp_path], [*NAMES, "a.2.query"])
