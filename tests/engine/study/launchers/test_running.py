"""Which cells may begin, where several run at a time."""

from __future__ import annotations

from engine.study.launchers.base import Job
from engine.study.launchers.running import Running
from tests.helpers.studies import job


def names(jobs: list[Job]) -> list[str]:
    return [j.name for j in jobs]


def test_a_cell_waits_for_those_it_reads_even_when_they_fail() -> None:
    first, second, third = job("a"), job("b", "a"), job("c")
    running = Running([first, second, third], retries=0)
    assert names(running.ready()) == ["a", "c"]
    assert running.ready() == []
    running.ended(first, "no")
    assert names(running.ready()) == ["b"]
    running.ended(second, None)
    assert not running.over
    running.ended(third, None)
    assert running.over
    assert running.failed == ["a: no"]


def test_what_is_finished_already_is_not_waited_for() -> None:
    assert names(Running([job("b", "a")], retries=0).ready()) == ["b"]


def test_a_dead_worker_is_replaced_as_often_as_allowed() -> None:
    only = job("a")
    running = Running([only], retries=1)
    assert names(running.ready()) == ["a"]
    running.died(only, "NodeDiedError")
    assert names(running.ready()) == ["a"]
    running.died(only, "NodeDiedError")
    assert running.over
    assert running.failed == ["a: its worker died 2 times (NodeDiedError); --study.ray.retries"]
