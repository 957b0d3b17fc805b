"""What a command is told of the files that its --config names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.files import to_yaml
from configs.parser import parse
from configs.requests import Request
from configs.schema import RunConfig
from engine import command
from engine.command import run_request
from engine.disk.files import write_text
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest


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
    monkeypatch.setattr("engine.command.run_stages", lambda request, stop, **_: RunFolder.of(request.config))
    for function in ("print_result", "print_next", "_beside"):
        monkeypatch.setattr(f"engine.command.{function}", lambda *_: None)
    start(parse(["--config", str(there.config)]))
    line = f"WARNING --config: {there.config} is that of the run in {there.root}, but this command works in "
    end = f"{here}/runs/a; --name a --runs_folder {there.root.parent} works in that run"
    assert log_lines == ([line + end] if told else [])
    log_lines.clear()
    start(parse(["--config", str(there.config), "--name", "b"]))
    assert log_lines == []
