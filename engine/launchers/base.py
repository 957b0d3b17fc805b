"""What a launcher is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from configs.cli import Request
from configs.schema_study import StudyConfig
from engine.interrupt import StopRequest


@dataclass(frozen=True)
class Job:
    """A cell that is not finished yet.

    `request` is made when its turn comes, as it may need what other cells found out (raises UserError when they did
    not); `after`: the names of the jobs that must have ended before, in whatever way.
    """

    name: str
    request: Callable[[], Request]
    after: frozenset[str] = field(default_factory=frozenset)


Launcher = Callable[[Sequence[Job], StudyConfig, StopRequest], list[str]]
"""Runs all jobs and returns a line for each that failed; raises Interrupted when a signal asked to stop, UserError for
what the user must change before any can run."""
