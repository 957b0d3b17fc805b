"""metrics.json: which seconds, steps and parameters are counted where."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from autolora.configs.parser import parse
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain.fit import Fitted
from autolora.engine.retrain.result import result_of
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resources import processor
from autolora.engine.run.same_weights import KnownWeights
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE

CPU = Compute(torch.device("cpu"), bf16=False)
FITTED = Fitted({"f1": 0.5, "recall": 0.25, "loss": 0.75}, seconds=3.0, steps=9)
RECORD = RankRecord(4, (LayerRank("a", 1), LayerRank("b", 4)), lora_parameters=320)
DATA = {"classes": ["a", "b"], "training": {"rows": 4, "sha256": "x"}, "evaluation_rows": None, "evaluation": {}}
TRIALS = {"trials": [{"tried": {"x": i}, "metrics": {}, "steps": 10, "seconds": 2.5} for i in (1, 2)]}


def run_in(root: Path, *arguments: str) -> Any:
    task = SimpleNamespace(name="sst2", evaluation_split="validation", held_out=False)
    return SimpleNamespace(config=parse(list(arguments)).config, folder=RunFolder(root), task=task, compute=CPU,
                           weights=KnownWeights("digest"), fingerprint=DATA, processes=ALONE,
                           weights_dtype=torch.float32, data=SimpleNamespace(evaluation={}))  # fmt: skip


SEARCHED = {"seconds": 5.0, "steps": 40, "peak_memory_mib": 1e9, "parameters_per_rank": {}}


def test_it_says_on_what_and_when_it_was_computed(tmp_path: Path) -> None:
    result = result_of(run_in(tmp_path), FITTED, RECORD, 900, 0.1)
    assert result["machine"].pop("name") == processor()
    assert result["machine"] == {"device": "cpu", "precision": "fp32", "weights": "fp32", "processes": 1}
    assert datetime.fromisoformat(result["ended"]).utcoffset() == timedelta(0)
    quantised = result_of(run_in(tmp_path, "--model.load_in_4bit", "true"), FITTED, RECORD, 900, 0.1)
    assert quantised["machine"]["weights"] == "4 bits"


def test_a_search_counts_to_the_total_and_its_memory_to_the_peak(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    write_json(run.folder.search_summary, SEARCHED)
    write_json(run.folder.answer, {"seconds": 2.0})
    result = result_of(run, FITTED, RECORD, trainable=400, rate=1e-3)
    assert result["seconds"] == {"search": 5.0, "answer": 2.0, "retrain": 3.0, "total": 10.0}
    assert result["steps"] == {"search": 40, "retrain": 9}
    assert result["peak_memory_mib"] == 1e9
    assert (result["lora_parameters"], result["trainable_parameters"], result["mean_rank"]) == (320, 400, 2.5)
    assert list(result["metrics"].items()) == [("f1", 0.5), ("recall", 0.25)], "the main one first, the loss apart"
    assert result["loss"] == 0.75
    assert (result["base_weights"], result["data"], result["source_ranks"]) == ("digest", DATA, None)
    assert json.loads(json.dumps(result)) == result


def test_a_method_without_search_reads_none_that_another_left(tmp_path: Path) -> None:
    run = run_in(tmp_path, "--method", "full")
    write_json(run.folder.search_summary, SEARCHED)
    write_json(run.folder.answer, {"seconds": 2.0})
    result = result_of(run, FITTED, None, trainable=400, rate=1e-3)
    assert result["seconds"] == {"search": None, "answer": None, "retrain": 3.0, "total": 3.0}
    assert result["steps"] == {"search": None, "retrain": 9}
    assert (result["lora_parameters"], result["mean_rank"]) == (0, None)
    assert 0 < result["peak_memory_mib"] < 1e9


def test_the_ranks_that_a_control_read_are_recorded(tmp_path: Path) -> None:
    write_json(tmp_path / "other.json", {"k": 4, "layers": [{"name": "a", "rank": 3}, {"name": "b", "rank": 0}]})
    run = run_in(tmp_path, "--method", "lora_shuffled", "--lora.ranks_from", str(tmp_path / "other.json"))
    assert result_of(run, FITTED, RECORD, 400, 1e-3)["source_ranks"] == {"k": 4, "a": 3}


def test_ranks_written_by_hand_cost_no_search(tmp_path: Path) -> None:
    assert result_of(run_in(tmp_path), FITTED, RECORD, 400, 1e-3)["seconds"]["search"] is None


def test_the_trials_of_a_grid_are_its_search(tmp_path: Path) -> None:
    run = run_in(tmp_path, "--method", "lora_grid", "--lora.target_modules", "[query]")
    write_json(run.folder.grid, TRIALS)
    result = result_of(run, FITTED, RECORD, 400, 1e-3)
    assert result["seconds"] == {"search": 5.0, "answer": None, "retrain": 3.0, "total": 8.0}
    assert result["steps"]["search"] == 20


def test_a_sweep_of_rates_stands_apart_from_the_total(tmp_path: Path) -> None:
    run = run_in(tmp_path, "--method", "lora", "--retrain.learning_rates", "[1e-3,1e-2]")
    write_json(run.folder.sweep, TRIALS)
    result = result_of(run, FITTED, RECORD, 400, rate=1e-2)
    assert (result["seconds_sweep"], result["seconds"]["total"]) == (5.0, 3.0)
    assert (result["learning_rate"], result["learning_rates_tried"]) == (1e-2, [1e-3, 1e-2])
