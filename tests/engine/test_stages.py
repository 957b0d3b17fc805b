"""The whole job on tiny random models of four families."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from configs.cli import Request, parse
from configs.schema import RunConfig
from engine.interrupt import StopRequest
from engine.run_folder import RunFolder
from engine.stages import run_stages


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_all_stages_write_the_run_folder(tiny_config: Callable[..., RunConfig], kind: str) -> None:
    config = tiny_config(kind=kind)
    folder = run_stages(Request(config, "all", False, "tiny.yaml"), StopRequest())
    for path in (folder.config, folder.trajectory, folder.search_metrics, folder.ranks, folder.report):
        assert path.stat().st_size > 0
    assert (folder.adapter / "adapter_model.safetensors").exists()
    result = json.loads(folder.metrics.read_text())
    assert result["steps"] == {"search": 6, "retrain": 4}
    assert 0 <= result["metrics"]["accuracy"] <= 1


def test_stage_search_stops_at_ranks_and_all_goes_on_from_there(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--search.steps", "4")
    folder = run_stages(Request(config, "search", False, "tiny.yaml"), StopRequest())
    assert folder.ranks.exists()
    assert folder.report.exists()
    assert not folder.metrics.exists()
    assert not folder.adapter.exists()
    searched = {path: path.read_bytes() for path in (folder.ranks, folder.search_weights, folder.search_metrics)}
    run_stages(Request(config, "all", False, "tiny.yaml"), StopRequest())
    assert folder.metrics.exists()
    assert {path: path.read_bytes() for path in searched} == searched, "the search is not done again"


def test_stage_retrain_obeys_edited_ranks(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--search.steps", "2")
    folder = run_stages(Request(config, "search", False, "tiny.yaml"), StopRequest())
    record = json.loads(folder.ranks.read_text())
    wanted = [0, 1, 2, 7]
    for layer, rank in zip(record["layers"], wanted, strict=True):
        layer["rank"] = rank
    folder.ranks.write_text(json.dumps(record))
    run_stages(Request(config, "retrain", False, "tiny.yaml"), StopRequest())
    weights = load_file(folder.adapter / "adapter_model.safetensors")
    for layer, rank in zip(record["layers"], wanted, strict=True):
        a = weights.get(f"base_model.model.{layer['name']}.lora_A.weight")
        assert (0 if a is None else a.shape[0]) == rank
    result = json.loads(folder.metrics.read_text())
    assert result["mean_rank"] == 2.5
    assert result["lora_parameters"] == 10 * 64
    assert result["steps"] == {"search": 2, "retrain": 4}


def test_overwrite_retrain_trains_again_from_the_same_ranks(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    shutil.copytree(finished_run("bert").root, tmp_path / "runs" / "tiny")
    config = tiny_config("--retrain.max_steps", "2")
    before = RunFolder(tmp_path / "runs" / "tiny").ranks.read_bytes()
    folder = run_stages(Request(config, "retrain", True, "tiny.yaml"), StopRequest())
    assert folder.ranks.read_bytes() == before
    assert json.loads(folder.metrics.read_text())["steps"] == {"search": 6, "retrain": 2}


def test_the_config_of_the_folder_repeats_the_run(finished_run: Callable[..., RunFolder], tmp_path: Path) -> None:
    first = finished_run("bert")
    arguments = ["--config", str(first.config), "--runs_folder", str(tmp_path)]
    second = run_stages(parse(arguments), StopRequest())
    name = "adapter_model.safetensors"
    assert second.ranks.read_text() == first.ranks.read_text()
    assert (second.adapter / name).read_bytes() == (first.adapter / name).read_bytes()
    results = [json.loads(folder.metrics.read_text())["metrics"] for folder in (first, second)]
    assert results[0] == results[1]
