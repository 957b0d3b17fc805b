"""A study that is overwritten stays whole until all of its new cells, tables and figures are there."""

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import run
from autolora.configs.errors import UserError
from autolora.configs.requests import Given, Request
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.configs.values import with_values
from autolora.engine.command import run_request
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.study.folder import StudyFolder
from tests.helpers.processes import Process
from tests.helpers.run_folders import everything
from tests.helpers.studies import with_study
from tests.helpers.tiny import tiny_arguments

pytestmark = pytest.mark.trains
SMALL = ("--method", "lora", "--retrain.max_steps", "2", "--task.train_rows", "16", "--study.axes", "{seed: [0, 1]}")


def start(config: RunConfig, stage: Any = "all", *, overwrite: bool = False, stop: StopRequest | None = None) -> None:
    run_request(Request(config, stage, overwrite, "study.yaml"), stop or StopRequest())


def start_given(config: RunConfig, *keys: str) -> None:
    run_request(Request(config, "all", False, "study.yaml", Given(frozenset(keys))), StopRequest())


@pytest.fixture(scope="module")
def done(make_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A finished study of two runs; not to be changed."""
    config = make_config(tmp_path_factory.mktemp("study"), "bert", *SMALL)
    start(config)
    return StudyFolder.of(config)


@pytest.fixture
def study(done: StudyFolder, tiny_config: Callable[..., RunConfig], tmp_path: Path) -> tuple[RunConfig, StudyFolder]:
    """A copy of it, with notes of the user's."""
    config = tiny_config(*SMALL)
    shutil.copytree(done.root, tmp_path / "runs" / "tiny")
    for name in ("notes.txt", "cells/seed-0/notes.txt"):
        (tmp_path / "runs" / "tiny" / name).write_text("mine")
    return config, StudyFolder.of(config)


TYPOS = {
    "model": {"model.name": "nosuch/model"},
    "target": {"lora.target_modules": ["nosuch"]},
    "metric": {"task.metrics": ["nosuch"]},
    "path": {"task.type": "text", "task.path": "nosuch.csv"},
    "device": {"device": "cuda"},
    "module": {"lora.modules_to_save": ["nosuch"]},
}


@pytest.mark.parametrize("typo", TYPOS)
def test_a_mistake_leaves_the_old_study_as_it_was(study: tuple[RunConfig, StudyFolder], typo: str) -> None:
    config, folder = study
    before = everything(folder.root.parent)
    with pytest.raises(UserError):
        start(with_values(config, TYPOS[typo]), overwrite=True)
    assert everything(folder.root.parent) == before


SHUFFLED = {"method": "lora_shuffled", "lora.ranks_from": "{runs}/variant-c"}
WRONG: dict[str, dict[str, Any]] = {
    r"seeds": {"axes": {"seeds": [0, 1]}},
    r"lora\.k": {"axes": {"lora.k": [4, -1]}},
    r"^--study\.reference: no row is named 'x'; there are: .*": {"axes": {"seed": [0]}, "reference": "x"},
    r"^--lora\.r: does nothing": {"axes": {"lora.r": [1, 2]}, "variants": {"a": {"method": "full"}}},
    r"did you mean variant-a\?$": {"variants": {"a": {}, "b": SHUFFLED}},
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_settings_of_a_study_are_one_line_before_any_cell(
    tiny_config: Callable[..., RunConfig], words: str
) -> None:
    config = dataclasses.replace(tiny_config(), study=StudyConfig(**WRONG[words]))
    with pytest.raises(UserError, match=words):
        start_given(config, "study.axes")
    assert not Path(config.runs_folder).exists()


@pytest.mark.parametrize(
    ("key", "study"),
    [("seed", {"axes": {"seed": [0, 1]}}), ("search.steps", {"variants": {"a": {"search.steps": 5}}})],
)
def test_a_key_of_the_command_line_that_the_study_sets_in_every_cell_is_refused(
    tiny_config: Callable[..., RunConfig], key: str, study: dict[str, Any]
) -> None:
    config = dataclasses.replace(tiny_config(), study=StudyConfig(**study))
    with pytest.raises(UserError, match=rf"^--{key}: does nothing beside study\.(axes|variants), which has values"):
        start_given(config, key)


def test_what_is_the_users_beside_the_study_stays(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    (folder.root.parent / ".tiny.overwrite" / "mine").mkdir(parents=True)
    before = everything(folder.root.parent)
    with pytest.raises(UserError, match=r"^--overwrite: .*\.tiny\.overwrite, which this program uses .* holds mine"):
        start(config, overwrite=True)
    assert everything(folder.root.parent) == before


def test_a_refused_study_leaves_no_folder(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config(*SMALL, "--lora.target_modules", "[nosuch]")
    with pytest.raises(UserError, match="no cell of the study finished"):
        start(config)
    assert not Path(config.runs_folder).exists()


def test_a_package_that_is_missing_is_told_before_any_cell(
    study: tuple[RunConfig, StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = study
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else find(name, *rest)
    )
    other = with_study(config, {"seed": [0, 1, 2], "method": ["lora", "optuna"]})
    with pytest.raises(UserError, match=r"^--method: optuna is not installed"):
        start(dataclasses.replace(other, name="other"))
    assert not (folder.root.parent / "other").exists()
    start(config)  # a study without it is not refused


def test_an_overwrite_names_the_finished_cells_that_it_will_remove(
    study: tuple[RunConfig, StudyFolder], log_lines: list[str]
) -> None:
    config, folder = study
    start(with_study(config, {"seed": [1]}), overwrite=True)
    assert not (folder.cells / "seed-0" / "metrics.json").exists()
    (line,) = [line for line in log_lines if "will be removed" in line]
    assert line.startswith("WARNING --overwrite: 1 finished cell of ")
    assert line.endswith(", as the study has no such cells now: seed-0")


def test_the_new_study_takes_the_place_of_the_old_one(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    start(with_values(config, {"retrain.max_steps": 3}), overwrite=True)
    for seed in (0, 1):
        cell = RunFolder(folder.cells / f"seed-{seed}")
        assert json.loads(cell.metrics.read_text())["steps"]["retrain"] == 3
        assert yaml.safe_load(cell.config.read_text())["runs_folder"] == str(folder.cells)
    assert len(pd.read_parquet(folder.results)) == 2
    assert (folder.root / "notes.txt").exists()
    assert (folder.cells / "seed-0" / "notes.txt").exists()
    assert [path.name for path in folder.root.parent.iterdir()] == ["tiny"]
    before = {path: path.stat().st_mtime_ns for path in folder.cells.rglob("*")}
    start(with_values(config, {"retrain.max_steps": 3}))
    assert {path: path.stat().st_mtime_ns for path in before} == before, "no cell runs again"


def test_a_study_with_a_failed_cell_replaces_no_whole_one(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    before = everything(folder.root)
    broken = with_study(config, {"lora.target_modules": [["nothing"], ["query"]]})
    with pytest.raises(UserError, match=r"^1 of the study's cells failed.* is not touched until all have finished"):
        start(broken, overwrite=True)
    assert everything(folder.root) == before
    growing = StudyFolder(folder.root.with_name(".tiny.overwrite"))
    assert len(pd.read_parquet(growing.results)) == 1


@pytest.mark.slow
def test_finished_cells_of_a_half_done_overwrite_are_not_run_again(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    before = everything(folder.root)
    growing = StudyFolder(folder.root.with_name(".tiny.overwrite"))

    class Second(StopRequest):
        @property
        def code(self) -> int | None:
            return 130 if (growing.cells / "seed-0" / "metrics.json").exists() else None

        @code.setter
        def code(self, value: int | None) -> None: ...

    with pytest.raises(Interrupted):
        start(config, overwrite=True, stop=Second())
    assert everything(folder.root) == before
    finished = (growing.cells / "seed-0" / "metrics.json").read_bytes()
    start(config, overwrite=True)
    assert (folder.cells / "seed-0" / "metrics.json").read_bytes() == finished
    assert not growing.root.exists()


@pytest.mark.slow
def test_half_done_cells_of_other_settings_make_the_overwrite_begin_again(
    study: tuple[RunConfig, StudyFolder],
) -> None:
    """Nothing else would: the refused cell asks for --overwrite, which was given."""
    config, folder = study
    before = everything(folder.root)
    growing = StudyFolder(folder.root.with_name(".tiny.overwrite"))

    class InTheFirst(StopRequest):
        @property
        def code(self) -> int | None:
            return 130 if (growing.cells / "seed-0" / "retrain" / "checkpoint-1").exists() else None

        @code.setter
        def code(self, value: int | None) -> None: ...

    slower = with_values(config, {"retrain.checkpoint_every": 1, "retrain.max_steps": 4})
    with pytest.raises(Interrupted):
        start(slower, overwrite=True, stop=InTheFirst())
    with pytest.raises(UserError, match="no cell of the study finished"):
        start(with_values(slower, {"retrain.max_steps": 5, "model.name": "nosuch/model"}), overwrite=True)
    assert (growing.cells / "seed-0" / "retrain" / "checkpoint-1").exists(), "put back"
    assert everything(folder.root) == before
    start(with_values(slower, {"retrain.max_steps": 5}), overwrite=True)
    assert json.loads((folder.cells / "seed-0" / "metrics.json").read_text())["steps"]["retrain"] == 5
    assert [path.name for path in folder.root.parent.iterdir()] == ["tiny"]


def test_what_a_cell_reads_of_the_old_study_is_not_replaced(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    before = everything(folder.root.parent)
    source = str(folder.cells / "seed-0" / "ranks.json")
    reading = dataclasses.replace(
        config, study=StudyConfig(variants={"x": {"method": "lora_shuffled", "lora.ranks_from": source}})
    )
    with pytest.raises(UserError, match=r"^--lora\.ranks_from: .* among the results .* another --name$"):
        start(reading, overwrite=True)
    assert everything(folder.root.parent) == before


@pytest.mark.slow
def test_cells_that_read_each_other_read_the_new_ones(study: tuple[RunConfig, StudyFolder]) -> None:
    config, folder = study
    variants: dict[str, dict[str, Any]] = {
        "first": {"lora.r": 3},
        "second": {"method": "lora_shuffled", "lora.ranks_from": "{runs}/variant-first/ranks.json"},
    }
    start(dataclasses.replace(config, study=StudyConfig(variants=variants)), overwrite=True)
    ranks = json.loads((folder.cells / "variant-second" / "ranks.json").read_text())
    assert {layer["rank"] for layer in ranks["layers"]} == {3}


def test_a_folder_of_other_files_is_no_study(study: tuple[RunConfig, StudyFolder], tmp_path: Path) -> None:
    config = dataclasses.replace(study[0], runs_folder=str(tmp_path))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"^--name: .* holds notes\.txt, and no config\.yaml of a run"):
        start(config, overwrite=True)


def test_a_study_is_no_trial_of_a_sweep(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb would have sent all cells to one run."""
    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    config = tiny_config("--tracking.wandb", "online")
    with pytest.raises(UserError, match=r"^--study: a study cannot be a trial of a wandb sweep, .*; give --tracking"):
        start(dataclasses.replace(config, study=StudyConfig({"seed": [0]})))


@pytest.mark.slow
def test_a_study_killed_in_an_overwrite_goes_on(
    study: tuple[RunConfig, StudyFolder], model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    _, folder = study
    before = everything(folder.root)
    argv = [*tiny_arguments(model_folder("bert"), tmp_path), *SMALL, "--overwrite"]
    growing = StudyFolder(folder.root.with_name(".tiny.overwrite"))
    process = Process(argv, tmp_path / "out.txt")
    process.wait_for((growing.cells / "seed-0" / "metrics.json").exists)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -9
    assert everything(folder.root) == before
    assert run.main(argv) == 0
    assert [path.name for path in folder.root.parent.iterdir()] == ["tiny"]
