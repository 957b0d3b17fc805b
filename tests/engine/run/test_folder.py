"""The run folder holds the files that were agreed on, and nothing that was left over."""

import json
from pathlib import Path
from typing import get_args

import pytest

from autolora.configs.schema import RunConfig, Stage
from autolora.engine.disk.paths import At
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.folder import StudyFolder
from tests.helpers.run_folders import WHOLE, names


@pytest.mark.trains
def test_a_finished_run_holds_the_agreed_files_and_no_leftovers(finished: tuple[RunConfig, RunFolder]) -> None:
    _, folder = finished
    assert names(folder) == WHOLE
    assert {path.name for path in folder.search.iterdir()} == {
        "trajectory.parquet",
        "metrics.jsonl",
        "summary.json",
        "answer.json",
        "components.safetensors",
        "weights.safetensors",
    }
    always = {"ranks.png", "alpha.png", "losses.png", "rank_evolution.png", "retrain_loss.png"}
    # A run this short may have learned nothing, of which there are neither a curve nor shares.
    assert {path.name for path in folder.figures.iterdir()} - {"curve.png", "shares.png"} == always
    result = json.loads(folder.metrics.read_text())
    assert {"method", "task", "split", "metrics", "trainable_parameters", "lora_parameters", "seed"} <= set(result)
    assert result["steps"] == {"search": 6, "retrain": 4}
    assert set(result["metrics"]) == {"accuracy"}
    assert {"python", "torch", "betty-ml", "transformers", "peft", "datasets"} == set(result["versions"])
    assert result["peak_memory_mib"] > 10


def test_the_home_of_the_user_may_hold_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = RunConfig(name="a", runs_folder="~/runs")
    assert RunFolder.of(config).root == StudyFolder.of(config).root == tmp_path / "runs" / "a"


def test_every_place_of_a_run_is_cleared_when_it_is_done_again() -> None:
    """All but config.yaml, which is written anew, and the folder in which wandb keeps each run apart."""
    folder = RunFolder(Path("runs") / "x")
    places = {getattr(folder, name) for name, kind in vars(RunFolder).items() if isinstance(kind, At)}
    left = {path for path in places if not any(path.is_relative_to(output) for output in folder.outputs("all"))}
    assert left == {folder.config, folder.wandb}


def test_a_retraining_keeps_the_wandb_run_of_its_search_and_not_that_of_an_earlier_retraining(tmp_path: Path) -> None:
    """Two retrainings in one wandb run were drawn as one curve, which ran back and forth."""
    for begun in ("metrics.json", "retrain/checkpoint-1"):
        folder = RunFolder(tmp_path / begun)
        assert folder.wandb_id in folder.outputs("all")
        assert folder.wandb_id in folder.outputs("search")
        assert folder.wandb_id not in folder.outputs("retrain")
        (folder.root / begun).mkdir(parents=True)
        assert folder.wandb_id in folder.outputs("retrain")
        assert folder.wandb_id not in folder.outputs("report")


def test_predictions_are_replaced_by_a_search_and_by_a_training_and_not_by_a_report() -> None:
    """After a search they would be of the ranks of before."""
    folder = RunFolder(Path("runs") / "x")
    replaced = {stage: folder.predictions in folder.outputs(stage) for stage in get_args(Stage)}
    assert {stage for stage in replaced if not replaced[stage]} == {"report"}
