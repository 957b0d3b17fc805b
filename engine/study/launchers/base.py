"""What a launcher receives and returns."""

import logging
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.study import StudyConfig
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.resuming import Outdated
from autolora.engine.terminal.ticker import clock

log = logging.getLogger("autolora")

RETRIES = "--study.ray.retries allows more"
"""What to do about a cell whose workers died too often, if nothing else is known."""
_MOST_LETTERS = 500
_ENOUGH = 3
"""After so many cells the log says how long the others will take, if they take as long on average."""


def in_a_line(error: Exception) -> str:
    """The text of an error in one line; that of an unexpected error follows its type, as it says too little alone."""
    if isinstance(error, UserError):
        return str(error)
    return textwrap.shorten(f"{type(error).__name__}: {error}", _MOST_LETTERS, placeholder=" ...").removesuffix(":")


@dataclass(frozen=True)
class Job:
    """A cell that is not finished yet.

    `request` is called when the job begins, as it may need another cell's result; it raises UserError if the result is
    missing. `after`: the names of the jobs that must have ended before, whether they finished or failed. `folder`:
    that of the cell. `anew`: the request that trains the cell from the beginning, if what an earlier command left of
    it cannot be resumed; None: such a job fails.
    """

    name: str
    request: Callable[[], Request]
    after: frozenset[str] = frozenset()
    folder: RunFolder | None = None
    anew: Callable[[], Request] | None = None


class Running:
    """Records which `jobs` wait, run and have ended. A job whose worker died begins again, at most `retries` times.

    `tells_ends`: whether a line says that a job has finished; failures are told in any case. Raises UserError for jobs
    that wait for each other.
    """

    def __init__(self, jobs: Sequence[Job], retries: int = 0, *, tells_ends: bool = True) -> None:
        self.failed: list[str] = []
        self.total = len(jobs)
        self._retries = retries
        self._tells_ends = tells_ends
        self._waiting = list(jobs)
        self._open = {job.name for job in jobs}
        self._began = time.monotonic()
        self._deaths: Counter[str] = Counter()
        self._half_done = {job.name for job in jobs if job.folder is not None and job.folder.begun}
        try:
            TopologicalSorter({job.name: job.after & self._open for job in jobs}).prepare()
        except CycleError as error:
            raise UserError(
                f"--study: the cells {', '.join(error.args[1][1:])} wait for each other's results in a circle "
                f"(lora.ranks_from, answer.from, retrain.init)"
            ) from error

    @property
    def over(self) -> bool:
        """Whether every job has ended."""
        return not self._open

    @property
    def done(self) -> int:
        """How many jobs have ended."""
        return self.total - len(self._open)

    def take(self) -> Job | None:
        """Takes the first waiting job whose predecessors have ended; None when there is none."""
        job = next((job for job in self._waiting if not job.after & self._open), None)
        if job is not None:
            self._waiting.remove(job)
        return job

    def ended(self, job: Job, error: str | None = None) -> None:
        """Records that a job has finished, or that it has failed with `error` and is not tried again."""
        self._open.discard(job.name)
        done = self.done
        left = (time.monotonic() - self._began) * len(self._open) / done
        soon = f" (about {clock(left)} left)" if self._open and done >= _ENOUGH else ""
        if error or self._tells_ends:
            log.info("cell %d of %d %s: %s%s", done, self.total, "failed" if error else "finished", job.name, soon)
        if error:
            self.failed.append(f"{job.name}: {error}")

    def broke(self, job: Job, error: Exception, trace: str = "") -> None:
        """Records that a job has failed, or lets it begin anew if it cannot be resumed.

        Logs the traceback of `error`, unless it is a UserError; `trace`: that of another process, which `error` does
        not have.
        """
        half_done = isinstance(error, Outdated) and job.name in self._half_done
        if half_done and job.anew is not None:
            log.info("cell %s begins anew, as its half-done results cannot be resumed: %s", job.name, error)
            self._waiting.insert(0, replace(job, request=job.anew, anew=None))
            return
        if not isinstance(error, UserError):
            log.error("cell %s failed\n%s", job.name, trace or "".join(traceback.format_exception(error)))
        why = in_a_line(error)
        if half_done:
            why += "; to train this cell alone again, remove its folder"
        self.ended(job, why)

    def died(self, job: Job, why: str, way_out: str = RETRIES) -> None:
        """Records that a job's worker died: the job waits again, or has failed if `retries` are used up. `way_out`:
        what the user can do then."""
        self._deaths[job.name] += 1
        if self._deaths[job.name] > self._retries:
            self.ended(job, f"its worker died {self._deaths[job.name]} times ({why}); {way_out}")
            return
        log.warning("cell %s: its worker died (%s); it resumes from its last checkpoint", job.name, why)
        self._waiting.append(job)


@dataclass(frozen=True)
class Launcher:
    """A way to start cells."""

    run: Callable[[Running, StudyConfig, StopRequest], list[str]]
    """Runs all jobs and returns a line for each that failed; raises Interrupted when a signal asked to stop, UserError
    for what the user must change before any can run."""
    check: Callable[[StudyConfig], None] = lambda settings: None
    """Raises UserError for settings with which no cell can run. Called before the study's folder is touched, and only
    if there are cells to run."""
