"""Which cells may begin, in which order, and what becomes of those whose worker died."""

import dataclasses
import time
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resuming import Outdated
from autolora.engine.study.launchers.base import Running
from tests.helpers.studies import job


def taken(running: Running) -> list[str]:
    """Names of the jobs that may begin now."""
    return [found.name for found in iter(running.take, None)]


def test_jobs_come_after_those_that_they_read_and_else_keep_their_order() -> None:
    running = Running([job("shuffled", "learned", "finished before"), job("lora"), job("learned"), job("full")])
    begun = []
    for found in iter(running.take, None):
        begun.append(found.name)
        running.ended(found)
    assert begun == ["lora", "learned", "shuffled", "full"]
    with pytest.raises(UserError, match=r"^--study: the cells (b, a|a, b) wait for each other"):
        Running([job("a", "b"), job("b", "a")])


def test_a_cell_waits_for_those_it_reads_even_when_they_fail() -> None:
    first, second, third = job("a"), job("b", "a"), job("c")
    running = Running([first, second, third])
    assert taken(running) == ["a", "c"]
    assert taken(running) == []
    running.ended(first, "no")
    assert taken(running) == ["b"]
    running.ended(second)
    assert not running.over
    running.ended(third)
    assert running.over
    assert running.failed == ["a: no"]


@pytest.mark.parametrize("tells_ends", [True, False])
def test_only_failures_are_told_where_the_caller_tells_of_each_end(tells_ends: bool, log_lines: list[str]) -> None:
    first, second = job("a"), job("b")
    running = Running([first, second], tells_ends=tells_ends)
    running.ended(first)
    running.ended(second, "no")
    assert log_lines == ["INFO cell 1 of 2 finished: a"] * tells_ends + ["INFO cell 2 of 2 failed: b"]


def test_what_is_finished_already_is_not_waited_for() -> None:
    assert taken(Running([job("b", "a")])) == ["b"]


def test_the_log_says_how_long_the_others_will_take(log_lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    jobs = [job(name) for name in "abcde"]
    running = Running(jobs)
    for done in jobs:
        now += 60
        running.ended(done)
    said = [line.split("finished: ")[1] for line in log_lines]
    assert said == ["a", "b", "c (about 2:00 left)", "d (about 1:00 left)", "e"]


def test_only_a_cell_that_was_half_done_begins_anew_and_only_once(tmp_path: Path, log_lines: list[str]) -> None:
    """A fresh cell has nothing that could be resumed. The whole overwritten study had begun again, finished cells
    included."""
    jobs = [
        dataclasses.replace(job(name), folder=RunFolder(tmp_path / name), anew=lambda: pytest.fail("begun"))
        for name in ("fresh", "half done")
    ]
    jobs[1].folder.root.mkdir()  # type: ignore[union-attr]
    jobs[1].folder.config.touch()  # type: ignore[union-attr]
    running = Running(jobs)
    assert taken(running) == ["fresh", "half done"]
    running.broke(jobs[0], Outdated("--answer.from: another search"))
    running.broke(jobs[1], Outdated("--search.steps: was 4, now it is 8"))
    assert running.failed == ["fresh: --answer.from: another search"]
    again = running.take()
    assert again is not None
    assert again.request == jobs[1].anew
    assert "cell half done begins anew, as its half-done results cannot be resumed: --search.steps" in log_lines[-1]
    running.broke(again, Outdated("--search.steps: was 4, now it is 8"))
    assert "to train this cell alone again, remove its folder" in running.failed[1]


def test_a_dead_worker_is_replaced_as_often_as_allowed() -> None:
    only = job("a")
    running = Running([only], retries=1)
    assert taken(running) == ["a"]
    running.died(only, "NodeDiedError")
    assert taken(running) == ["a"]
    running.died(only, "NodeDiedError")
    assert running.over
    assert running.failed == ["a: its worker died 2 times (NodeDiedError); --study.ray.retries allows more"]


def test_the_traceback_of_an_unexpected_error_alone_is_logged(log_lines: list[str]) -> None:
    running = Running([job("a"), job("b")])
    running.broke(job("a"), UserError("--seed: no"))
    try:
        {}["layer.0"]
    except KeyError as error:
        running.broke(job("b"), error)
    (traceback,) = [line for line in log_lines if "Traceback" in line]
    assert '{}["layer.0"]' in traceback


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("--seed: no"), "--seed: no"),
        (KeyError("layer.0"), "KeyError: 'layer.0'"),
        (AssertionError(), "AssertionError"),
        (RuntimeError("two\n\tlines"), "RuntimeError: two lines"),
    ],
)
def test_an_unexpected_error_is_named_by_its_type(error: Exception, line: str) -> None:
    running = Running([job("a")])
    running.broke(job("a"), error)
    assert running.failed == [f"a: {line}"]
