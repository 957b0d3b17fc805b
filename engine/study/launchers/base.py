"""What a launcher is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from configs.errors import UserError
from configs.requests import Request
from configs.schema_study import StudyConfig
from engine.run.interrupt import StopRequest


@dataclass(frozen=True)
class Job:
    """A cell that is not finished yet.

    `request` is made when its turn comes, as it may need what other cells found out (raises UserError when they did
    not); `after`: the names of the jobs that must have ended before, in whatever way.
    """

    name: str
    request: Callable[[], Request]
    after: frozenset[str] = field(default_factory=frozenset)


def _nothing(settings: StudyConfig) -> None:
    """For a launcher that needs nothing but this process."""


@dataclass(frozen=True)
class Launcher:
    """A way to start cells."""

    run: Callable[[Sequence[Job], StudyConfig, StopRequest], list[str]]
    """Runs all jobs and returns a line for each that failed; raises Interrupted when a signal asked to stop, UserError
    for what the user must change before any can run."""
    check: Callable[[StudyConfig], None] = _nothing
    """Raises UserError for what can be known to be wrong before any cell runs; asked before the study's folder is
    touched, and only where there are cells to run."""


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, each after those that it must come after, otherwise in their own order.

    Raises UserError for jobs that wait for each other.
    """
    place = {job.name: number for number, job in enumerate(jobs)}
    sorter = TopologicalSorter({job.name: job.after & place.keys() for job in jobs})
    try:
        sorter.prepare()
    except CycleError as error:
        raise UserError(
            f"--lora.ranks_from: the cells {', '.join(error.args[1][1:])} would each read another's ranks"
        ) from error
    found: list[Job] = []
    ready = set(sorter.get_ready())
    while ready:
        first = min(ready, key=lambda name: place[name])
        ready.remove(first)
        found.append(jobs[place[first]])
        sorter.done(first)
        ready.update(sorter.get_ready())
    return found
