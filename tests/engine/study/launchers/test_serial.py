"""One cell after the other: a failed one is a line, a signal ends all."""

from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.schema_study import StudyConfig
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.study.launchers import serial
from autolora.engine.study.launchers.base import Job, Running
from autolora.engine.terminal.console import told_once


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that were begun, of which `fails` and `breaks` do."""
    names: list[str] = []

    def run_stages(request: Request, stop: StopRequest, **_: Any) -> None:
        stop.check()
        names.append(str(request.config.name))
        if request.config.name == "fails":
            raise UserError("--seed: no")
        if request.config.name == "breaks":
            raise RuntimeError("broken")

    monkeypatch.setattr(serial, "run_stages", run_stages)
    return names


def jobs(*names: str) -> list[Job]:
    return [Job(name, lambda name=name: Request(RunConfig(name=name), "all", False, "x")) for name in names]  # type: ignore[misc]


def test_a_failed_job_is_a_line_and_the_others_go_on(begun: list[str]) -> None:
    def refused() -> Request:
        raise UserError("the rate is not there")

    running = Running([*jobs("fails", "breaks"), Job("waits", refused), *jobs("last")])
    failed = serial.serially(running, StudyConfig(), StopRequest())
    assert begun == ["fails", "breaks", "last"]
    assert failed == ["fails: --seed: no", "breaks: RuntimeError: broken", "waits: the rate is not there"]


def test_a_signal_ends_all(begun: list[str]) -> None:
    stop = StopRequest()
    stop.code = 143
    with pytest.raises(Interrupted):
        serial.serially(Running(jobs("a", "b")), StudyConfig(), stop)
    assert begun == []


@pytest.mark.trains
def test_what_trainings_have_in_common_is_told_once(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    """A verdict repeated its memory, its rows and its steps for each of dozens of trainings."""
    arguments = ("--method", "lora", "--lora.r", "1", "--retrain.max_steps", "1", "--task.seed", "0")
    configs = [tiny_config(*arguments, "--name", f"pair-{number}", "--seed", f"{number}") for number in (1, 2)]
    trainings = [Job(str(x.name), lambda x=x: Request(x, "all", False, "x")) for x in configs]  # type: ignore[misc]
    with told_once():
        failed = serial.serially(Running(trainings, tells_ends=False), StudyConfig(), StopRequest())
    assert failed == []
    told = [line.removeprefix("INFO ") for line in log_lines if line.startswith("INFO ")]
    assert [line.split(" ")[0] for line in told] == ["cell", "retrain", "memory:", "cell"]
    assert sum("unknown to the tokenizer" in line for line in log_lines) == 2, "once of each split"
