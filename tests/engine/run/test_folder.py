"""The run folder: finished runs are safe, --overwrite clears what its stage wrote, files are whole or absent."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
from configs.schema import RunConfig
from engine.disk.files import read_json, remove, write_json, write_text
from engine.run.folder import RunFolder
from engine.run.opening import nothing_left_when_refused, open_folder


@pytest.fixture
def finished(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> tuple[RunConfig, RunFolder]:
    """A copy of a finished run, to be changed."""
    shutil.copytree(finished_run("bert").root, tmp_path / "runs" / "tiny")
    return tiny_config(), RunFolder(tmp_path / "runs" / "tiny")


def names(folder: RunFolder) -> set[str]:
    return {path.name for path in folder.root.iterdir()}


WHOLE = {"config.yaml", "search", "ranks.json", "adapter", "metrics.json", "report.html", "figures"}


def test_a_finished_run_holds_the_agreed_files_and_no_leftovers(finished: tuple[RunConfig, RunFolder]) -> None:
    _, folder = finished
    assert names(folder) == WHOLE
    assert {path.name for path in folder.search.iterdir()} == {
        "trajectory.parquet",
        "metrics.jsonl",
        "summary.json",
        "config.yaml",
        "weights.safetensors",
    }
    assert {path.name for path in folder.figures.iterdir()} == {
        "ranks.png", "alpha.png", "losses.png", "rank_evolution.png",
    }  # fmt: skip
    result = json.loads(folder.metrics.read_text())
    assert {"method", "task", "split", "metrics", "trainable_parameters", "lora_parameters", "seed"} <= set(result)
    assert result["steps"] == {"search": 6, "retrain": 4}
    assert set(result["metrics"]) == {"accuracy"}
    assert {"python", "torch", "betty-ml", "transformers", "peft", "datasets"} == set(result["versions"])
    assert result["peak_memory_mib"] > 10


@pytest.mark.parametrize("stage", ["all", "search", "retrain"])
def test_a_finished_stage_is_refused(finished: tuple[RunConfig, RunFolder], stage: Any) -> None:
    config, folder = finished
    with pytest.raises(UserError, match=r"^--name: .*already holds a finished run; --overwrite replaces it"):
        open_folder(config, stage, overwrite=False)
    assert names(folder) == WHOLE


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("all", {"config.yaml"}),
        ("search", {"config.yaml"}),  # what was retrained at the ranks of before goes with them
        ("retrain", {"config.yaml", "search", "ranks.json"}),
        ("report", {"config.yaml", "search", "ranks.json", "adapter", "metrics.json"}),
    ],
)
def test_overwrite_clears_what_the_stage_wrote_and_nothing_else(
    finished: tuple[RunConfig, RunFolder], stage: Any, kept: set[str]
) -> None:
    config, folder = finished
    for path in (folder.retrain, folder.merged, folder.padded):
        path.mkdir()
    (folder.root / "my notes.txt").write_text("mine")
    open_folder(config, stage, overwrite=True)
    retrained = {"retrain", "merged", "adapter_padded"} if stage == "report" else set()
    assert names(folder) == kept | retrained | {"my notes.txt"}


@pytest.mark.parametrize("stage", ["retrain", "report"])
def test_a_stage_without_its_input_is_refused_and_makes_no_folder(
    tiny_config: Callable[..., RunConfig], stage: Any
) -> None:
    config = tiny_config()
    with pytest.raises(UserError, match=rf"^--stage {stage}: .*ranks\.json does not exist; --stage search writes it"):
        open_folder(config, stage, overwrite=False)
    assert not Path(config.runs_folder).exists()


def test_a_folder_that_cannot_be_written_is_named(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = dataclasses.replace(tiny_config(), runs_folder=str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"^--runs_folder: cannot write .*file/tiny \(Not a directory\)"):
        open_folder(config, "all", overwrite=False)


def test_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"text": "é", "x": 0.1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"text": "é", "x": 0.1}

    def die(*arguments: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(MemoryError):
            write_text(path, "half")
    assert json.loads(path.read_text(encoding="utf-8"))["x"] == 0.1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_files_hold_no_nan(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": [value]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_remove_does_not_follow_a_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("mine")
    (tmp_path / "link").symlink_to(kept)
    remove(tmp_path / "link")
    remove(tmp_path / "absent")
    assert (kept / "file").exists()
    assert not (tmp_path / "link").exists()


def test_a_refused_run_leaves_no_name_of_a_wandb_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    def refused() -> None:
        with nothing_left_when_refused(folder):
            folder.wandb_id.write_text("abc")
            raise UserError("refused")

    with pytest.raises(UserError):
        refused()
    assert not folder.wandb_id.exists()


def test_a_missing_file_is_an_empty_object(tmp_path: Path) -> None:
    assert read_json(tmp_path / "absent.json") == {}
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "x.json") == {"a": 1}
