"""Scores of layers, read from the ranks.json of searches."""

import json
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from benchmarks.places.scores import measured_scores, refuse_other_rows, scores_of
from tests.helpers.finished import RESULT

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


def test_the_threshold_is_that_of_the_constraint(tmp_path: Path) -> None:
    """With sigmoid it is 1/2 and not 1/k, which each of these alphas reaches."""
    layers = (LayerRank(NAMES[0], 2, alpha=(0.6, 0.5, 0.3)), LayerRank(NAMES[1], 0, alpha=(0.4, 0.4, 0.4)))
    ranks.save(RankRecord(3, layers, "sigmoid"), tmp_path / "ranks.json")
    assert scores_of([tmp_path], NAMES)["rank by the paper's threshold"].tolist() == [2.0, 0.0]


def test_a_search_on_other_rows_than_the_trainings_is_refused(tmp_path: Path) -> None:
    """Its D_val could hold rows on which the trainings are judged."""
    own = {"task.train_rows": 9, "task.seed": None, "seed": 0}
    write_json(RunFolder(tmp_path).search_summary, {"parameters_per_rank": {}, "settings": own})
    refuse_other_rows([tmp_path], {"task.train_rows": 9, "task.seed": 0, "seed": 5})
    refuse_other_rows([tmp_path], {})
    refuse_other_rows([tmp_path], {"task.train_rows": 9, "task.seed": 0, "task.evaluation_split": "validation"})
    for other in ({"task.train_rows": 8, "task.seed": 0}, {"task.train_rows": 9, "task.seed": 3}):
        key = "task.train_rows 9" if other["task.train_rows"] == 8 else "task.seed 0"
        with pytest.raises(UserError, match=f"was searched with --{key}, the trainings have"):
            refuse_other_rows([tmp_path], {"seed": 5} | other)


def test_a_run_of_eva_on_other_rows_is_refused_too(tmp_path: Path) -> None:
    """It has no search, whose settings were compared."""
    write_json(RunFolder(tmp_path).metrics, RESULT | {"settings": {"task.train_rows": 9, "task.seed": 0, "seed": 1}})
    refuse_other_rows([tmp_path], {"task.train_rows": 9, "task.seed": 0})
    with pytest.raises(UserError, match=r"was searched with --task\.train_rows 9, the trainings have 8"):
        refuse_other_rows([tmp_path], {"task.train_rows": 8, "task.seed": 0})


def test_a_run_without_ranks_or_with_other_layers_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no ranks\.json"):
        scores_of([tmp_path], NAMES)
    searched(tmp_path, 1.0)
    with pytest.raises(UserError, match="its layers are not those of the trainings"):
        scores_of([tmp_path], [*NAMES, "a.2.query"])


def test_measured_scores_come_in_the_order_of_the_trainings(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"layers": NAMES, "scores": {"a": [1, 2], "b": [0.5, 0.25]}}))
    found = measured_scores(path, NAMES[::-1])
    assert {name: own.tolist() for name, own in found.items()} == {"a": [2.0, 1.0], "b": [0.25, 0.5]}


def test_scores_measured_after_searches_on_other_rows_are_refused(tmp_path: Path) -> None:
    path, keys = tmp_path / "scores.json", {"task.train_rows": 9, "task.seed": 0}
    path.write_text(json.dumps({"layers": NAMES, "scores": {"a": [1, 2]}, "rows": {"runs/x": keys}}))
    assert measured_scores(path, NAMES, keys | {"seed": 3})
    assert measured_scores(path, NAMES)
    with pytest.raises(UserError, match=r"^--measured: runs/x in .* was searched with --task\.seed 0, the trainings"):
        measured_scores(path, NAMES, {"task.train_rows": 9, "seed": 3})


@pytest.mark.parametrize(
    "content", [{}, {"layers": NAMES}, {"layers": NAMES, "scores": {"a": [1]}}, {"layers": 3, "scores": {"a": [1]}}]
)
def test_a_file_without_a_number_for_each_layer_is_named(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "scores.json"
    with pytest.raises(UserError, match=r"scores\.json does not exist"):
        measured_scores(path, NAMES)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="one number a layer"):
        measured_scores(path, NAMES)


def test_measured_scores_of_other_layers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"layers": ["x"], "scores": {"a": [1]}}))
    with pytest.raises(UserError, match="not those of the trainings"):
        measured_scores(path, NAMES)
