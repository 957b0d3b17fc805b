"""What a command is told of the files that its --config names."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import command
from autolora.engine.command import run_request
from autolora.engine.disk.files import write_text
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from tests.helpers.half_done import content


def start(request: Any) -> None:
    run_request(request, StopRequest())


@pytest.mark.parametrize(
    ("source", "arguments", "told"),
    [
        ("quickstart.yaml", ("--task.type", "text", "--task.path", "x.csv"), True),
        ("quickstart.yaml", (), False),
        ("mine.yaml", ("--task.type", "text", "--task.path", "x.csv"), False),
    ],
)
def test_own_data_without_a_config_says_whose_settings_hold(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, log_lines: list[str], source: str,
    arguments: tuple[str, ...], told: bool,
) -> None:  # fmt: skip
    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "joined", stopped)
    with pytest.raises(KeyboardInterrupt):
        start(Request(tiny_config(*arguments), "all", False, source))
    begin = "INFO what the command does not set is as in quickstart.yaml: "
    assert any(line.startswith(begin) for line in log_lines) == told


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (
            "",
            ": search.steps 160, search.learning_rate 0.002, retrain.max_steps 320, retrain.learning_rate 0.001, "
            "lora.target_modules all-linear",
        ),
        (
            "--search.learning_rate 1e-4 --lora.target_modules [query,value] --retrain.max_steps null",
            ": search.steps 160, retrain.learning_rate 0.001",
        ),
        ("--method lora --retrain.learning_rates [1e-3] --lora.target_modules [a]", ": retrain.max_steps 320"),
        ("--method lora --retrain.learning_rate 1e-3 --retrain.max_steps 9 --lora.target_modules [a]", ""),
    ],
)
def test_own_data_without_a_config_is_told_the_quickstart_s_values_that_hold(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[str], arguments: str, left: str
) -> None:
    """They are not the defaults that --help lists, and the line named none of them."""

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "joined", stopped)
    with pytest.raises(KeyboardInterrupt):
        start(parse(["--task.type", "text", "--task.path", "x.csv", *arguments.split()]))
    said = [line for line in log_lines if "as in quickstart.yaml" in line]
    assert said == [f"INFO what the command does not set is as in quickstart.yaml{left}; --config takes another file"]


def test_of_a_local_quickstart_its_own_values_are_told(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[str], tmp_path: Path
) -> None:
    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.yaml").write_text("search: {steps: 2000000}\n")
    monkeypatch.setattr(command, "joined", stopped)
    with pytest.raises(KeyboardInterrupt):
        start(parse(["--config", "quickstart.yaml", "--task.type", "text", "--task.path", "x.csv"]))
    values = "search.learning_rate 0.0001, retrain.max_steps null, retrain.learning_rate 0.0001, lora.target_modules"
    assert any(f"is as in quickstart.yaml: {values} query,value; " in line for line in log_lines)


def test_a_file_that_hides_a_shipped_one_is_named(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, log_lines: list[str], tmp_path: Path
) -> None:
    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "joined", stopped)
    with pytest.raises(KeyboardInterrupt):
        start(Request(tiny_config(), "all", False, "fast.yaml", hiding=[tmp_path / "fast.yaml"]))
    assert f"INFO --config reads {tmp_path / 'fast.yaml'}, not the shipped configuration of that name" in log_lines


@pytest.mark.parametrize("told", [True, False])
def test_the_settings_of_a_run_elsewhere_do_not_resume_it_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str], told: bool
) -> None:
    """config.yaml has a runs_folder relative to the working folder in which the run began."""
    there = RunFolder(tmp_path / "first" / "runs" / "a")
    write_text(there.config, to_yaml(parse(["--name", "a", "--task.type", "sample"]).config))
    if told:
        write_text(there.metrics, "{}")  # without results it is just a file with settings
    here = tmp_path / "second"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("autolora.engine.command.run_stages", lambda request, stop, **_: RunFolder.of(request.config))
    monkeypatch.setattr("autolora.engine.command.print_result", lambda *_: None)
    start(parse(["--config", str(there.config)]))
    line = f"WARNING --config: {there.config} is that of the run in {there.root}, but this command works in "
    end = f"{here}/runs/a; add --name a --runs_folder {there.root.parent} to work in the first"
    assert log_lines == ([line + end] if told else [])
    log_lines.clear()
    start(parse(["--config", str(there.config), "--name", "b"]))
    assert log_lines == []


def copied(root: Path, place: str) -> RunFolder:
    """The copy of a finished run or cell v2, whose original is in runs or in the cells of a study."""
    original = RunFolder(root / place / "v2")
    config = parse(["--name", "v2", "--runs_folder", str(root / place), "--task.type", "sample"]).config
    write_text(original.config, to_yaml(config))
    write_text(original.ranks, "{}")
    shutil.copytree(original.root, root / "else" / place / "moved")
    return original.at(root / "else" / place / "moved")


@pytest.mark.parametrize("place", ["runs", "runs/study/cells"])
@pytest.mark.parametrize("asks", ["--stage report", "--stage retrain", "--stage verdict", "--overwrite"])
def test_a_copy_of_a_run_does_not_act_on_the_results_of_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, asks: str
) -> None:
    """Its config.yaml names the original, whose report such a command rewrote."""
    monkeypatch.setattr(command, "_train", lambda *_: pytest.fail("the command was carried out"))
    copy = copied(tmp_path, place)
    before = content(tmp_path)
    with pytest.raises(UserError) as refused:
        start(parse(["--config", str(copy.config), *asks.split()]))
    assert str(refused.value) == (
        f"--config: {copy.config} is that of the run in {copy.root}, but this command would work in "
        f"{tmp_path / place / 'v2'}; add --name moved --runs_folder {copy.root.parent} for the first, or --name v2 "
        f"for the second"
    )
    assert content(tmp_path) == before


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("where", [["--name", "v3"], ["--name", "v2"], ["--name", "moved", "--runs_folder", "{}"]])
def test_a_command_that_says_where_to_work_takes_the_settings_of_a_copy_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str], where: list[str], first: bool
) -> None:
    copy = copied(tmp_path, "runs")
    seen: list[Request] = []
    monkeypatch.setattr(command, "_train", lambda request, _: seen.append(request))
    monkeypatch.setattr(command, "_as_it_ran", lambda request: request)
    options = [option.format(copy.root.parent) for option in where]
    if first:  # another file may say it, too
        write_text(tmp_path / "mine.yaml", "name: v3\n")
        options = ["--config", str(tmp_path / "mine.yaml")]
    for asks in (["--stage", "report"], ["--overwrite"], []):
        start(parse(["--config", str(copy.config), *options, *asks]))
    assert (len(seen), log_lines) == (3, [])


def test_a_copy_of_a_study_is_refused_and_the_original_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = RunFolder(tmp_path / "runs" / "study")
    settings = ["--runs_folder", str(tmp_path / "runs"), "--name", "study", "--study.axes", "{seed: [0, 1]}"]
    write_text(study.config, to_yaml(parse(settings).config))
    write_text(study.root / "cells" / "seed=0" / "config.yaml", "{}")
    shutil.copytree(study.root, tmp_path / "copy")
    monkeypatch.setattr(command, "_train", lambda *_: None)
    start(parse(["--config", str(study.config), "--stage", "report"]))
    with pytest.raises(UserError, match=f"of the study in {tmp_path}/copy, .* --name copy --runs_folder {tmp_path} "):
        start(parse(["--config", str(tmp_path / "copy" / "config.yaml"), "--stage", "report"]))
