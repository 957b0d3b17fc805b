"""A path that stands for each cell of a study."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import filled_in, options_of, sibling_name

pytestmark = pytest.mark.unit


def test_seed_task_and_runs_are_the_runs_own(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--seed", "7")
    expected = Path(config.runs_folder) / "seed-7_name-sample" / "ranks.json"
    assert filled_in("{runs}/seed-{seed}_name-{task}/ranks.json", config) == expected


def test_a_home_may_be_written_short(tiny_config: Callable[..., RunConfig]) -> None:
    assert filled_in("~/ranks.json", tiny_config()) == Path.home() / "ranks.json"


def test_a_command_works_in_the_folder_where_a_run_lies_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """config.yaml of a run that was moved still names the old folder, where the command would begin anew."""
    config = parse(["--name", "a", "--runs_folder", str(tmp_path / "runs")]).config
    folder = RunFolder.of(config)
    write_text(folder.config, to_yaml(config))
    assert options_of(folder) == ["--config", str(folder.config)]
    moved = RunFolder(folder.root.rename(tmp_path / "b"))
    monkeypatch.chdir(moved.root)
    for root in (moved.root, Path(".")):
        found = parse(options_of(RunFolder(root))).config
        assert RunFolder.of(found).root == moved.root


def test_a_further_run_lies_beside_the_folder_where_a_run_lies_now(tmp_path: Path) -> None:
    """Controls of a run that was moved were trained in its old place, where they were not found."""
    config = parse(["--name", "a", "--runs_folder", str(tmp_path / "runs")]).config
    folder = RunFolder.of(config)
    write_text(folder.config, to_yaml(config))
    assert options_of(folder, "a-b") == ["--config", str(folder.config), "--name", "a-b"]
    moved = RunFolder(folder.root.rename(tmp_path / "b"))
    found = parse(options_of(moved, "b-c")).config
    assert RunFolder.of(found).root == tmp_path / "b-c"
    assert options_of(RunFolder(tmp_path / "c"), "d") == [
        "--config",
        str(tmp_path / "c" / "config.yaml"),
        "--name",
        "d",
    ]


def test_a_further_run_of_a_cell_lies_beside_the_study(tmp_path: Path) -> None:
    """Among the cells the next overwrite of the study would have removed it."""
    config = parse(["--name", "seed-0", "--runs_folder", str(tmp_path / "runs" / "study" / "cells")]).config
    folder = RunFolder.of(config)
    write_text(folder.config, to_yaml(config))
    name = sibling_name(folder, "uniform")
    assert name == "study-seed-0-uniform"
    assert RunFolder.of(parse(options_of(folder, name)).config).root == tmp_path / "runs" / name
    assert parse(options_of(folder)).config == config
