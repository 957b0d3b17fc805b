"""What becomes of a cell on Ray is one line, its warnings are told, and the advice fits the cause."""

from types import SimpleNamespace
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.study.launchers.base import Running
from autolora.engine.study.launchers.ray_endings import take
from autolora.engine.terminal.console import told_once
from tests.helpers.studies import job

ray = pytest.importorskip("ray", reason="needs ray: an optional package")


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        (UserError("--seed: no"), "a: --seed: no"),
        (ZeroDivisionError("division by zero"), "a: ZeroDivisionError: division by zero"),
        (RuntimeError(), "a: RuntimeError"),
        (Interrupted(143), "a: its worker died 1 times (stopped by a signal); --study.ray.retries allows more"),
    ],
)
def test_what_became_of_a_cell_is_one_line(cause: Exception, line: str, log_lines: list[str]) -> None:
    class TaskError(Exception):
        def __init__(self) -> None:
            super().__init__("Traceback of the worker")
            self.cause = cause

    def get(_: Any) -> Any:
        raise TaskError

    fake = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayTaskError=TaskError, RayError=KeyError))
    running = Running([job("a")])
    take(fake, None, job("a"), running)
    assert running.failed == [line]
    shown = [text for text in log_lines if "Traceback of the worker" in text]
    assert bool(shown) is not isinstance(cause, UserError | Interrupted), "a trace is for an error that is a bug"


def test_the_warnings_of_a_worker_are_told(log_lines: list[str]) -> None:
    """A worker prints nothing, so that they were lost."""
    warned = [("autolora", "alpha has collapsed"), ("autolora.inputs", "2 rows are cut")]
    running = Running([job("a"), job("b"), job("c")])
    with told_once():
        for name in "ab":
            take(SimpleNamespace(get=lambda _: warned, exceptions=ray.exceptions), None, job(name), running)
    found = [line for line in log_lines if line.startswith("WARNING")]
    assert found == [
        "WARNING cell a: alpha has collapsed", "WARNING 2 rows are cut", "WARNING cell b: alpha has collapsed"
    ]  # fmt: skip


def test_the_warnings_before_an_error_are_told(log_lines: list[str]) -> None:
    cause = UserError("--seed: no")
    cause.warned = [("autolora", "alpha has collapsed")]  # type: ignore[attr-defined]

    def get(_: Any) -> Any:
        raise ray.exceptions.RayTaskError("run_cell", "trace", cause)

    running = Running([job("a")])
    take(SimpleNamespace(get=get, exceptions=ray.exceptions), None, job("a"), running)
    assert "WARNING cell a: alpha has collapsed" in log_lines
    assert running.failed == ["a: --seed: no"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ray.exceptions.OutOfMemoryError("full"), "(OutOfMemoryError); a larger --study.ray.cpus runs fewer cells at"),
        (ray.exceptions.WorkerCrashedError(), "--study.ray.retries allows more; if memory ran out, a larger --study"),
        (ray.exceptions.NodeDiedError("gone"), "(NodeDiedError); --study.ray.retries allows more"),
    ],
)
def test_a_worker_without_memory_is_told_what_helps(error: Exception, line: str) -> None:
    """More retries would end in the same way."""

    def get(_: Any) -> Any:
        raise error

    running = Running([job("a")])
    take(SimpleNamespace(get=get, exceptions=ray.exceptions), None, job("a"), running)
    assert line in running.failed[0]
