"""What a launcher is given and gives back."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from configs.errors import UserError
from configs.requests import Request
from configs.schema_study import StudyConfig
from engine.run.interrupt import StopRequest
from engine.run.resuming import Outdated

log = logging.getLogger("autolora")


@dataclass(frozen=True)
class Job:
    """A cell that is not finished yet.

    `request` is made when the job's turn comes, as it may need another cell's result, without which it raises
    UserError. `after`: the names of the jobs that must have ended before, in whatever way.
    """

    name: str
    request: Callable[[], Request]
    after: frozenset[str] = frozenset()


class Running:
    """Which of `jobs` wait, run and have ended; each may begin again `retries` times after its worker died.

    `outdated` is why one of them, half-done by an earlier command, cannot go on.

    Raises UserError for jobs that wait for each other.
    """

    def __init__(self, jobs: Sequence[Job], retries: int = 0) -> None:
        self.failed: list[str] = []
        self.outdated: str = ""
        self.total = len(jobs)
        self._retries = retries
        self._waiting = list(jobs)
        self._open = {job.name for job in jobs}
        self._deaths: Counter[str] = Counter()
        try:
            TopologicalSorter({job.name: job.after & self._open for job in jobs}).prepare()
        except CycleError as error:
            raise UserError(
                f"--study: the cells {', '.join(error.args[1][1:])} would each read what another finds "
                f"(lora.ranks_from, answer.from)"
            ) from error

    @property
    def over(self) -> bool:
        """Whether every job has ended."""
        return not self._open

    def take(self) -> Job | None:
        """Takes the first waiting job whose predecessors have ended; None when there is none."""
        job = next((job for job in self._waiting if not job.after & self._open), None)
        if job is not None:
            self._waiting.remove(job)
        return job

    def ended(self, job: Job, error: str | None = None) -> None:
        """A job is done, or has failed for good."""
        self._open.discard(job.name)
        done = self.total - len(self._open)
        log.info("cell %d of %d %s: %s", done, self.total, "failed" if error else "finished", job.name)
        if error:
            self.failed.append(f"{job.name}: {error}")

    def broke(self, job: Job, error: Exception) -> None:
        """A job has failed for good by `error`, whose trace is shown unless the user is to blame."""
        if not isinstance(error, UserError):
            log.error("cell %s failed", job.name, exc_info=error)
        if isinstance(error, Outdated):
            self.outdated = f"{job.name}: {error}"
        self.ended(job, str(error) or type(error).__name__)

    def died(self, job: Job, why: str) -> None:
        """The worker of a job is gone: it waits again, or has failed when this has happened too often."""
        self._deaths[job.name] += 1
        if self._deaths[job.name] > self._retries:
            self.ended(job, f"its worker died {self._deaths[job.name]} times ({why}); --study.ray.retries")
            return
        log.warning("cell %s: its worker died (%s); it goes on from its last checkpoint", job.name, why)
        self._waiting.append(job)


@dataclass(frozen=True)
class Launcher:
    """A way to start cells."""

    run: Callable[[Running, StudyConfig, StopRequest], list[str]]
    """Runs all jobs and returns a line for each that failed; raises Interrupted when a signal asked to stop, UserError
    for what the user must change before any can run."""
    check: Callable[[StudyConfig], None] = lambda settings: None
    """Raises UserError for what can be known to be wrong before any cell runs; asked before the study's folder is
    touched, and only where there are cells to run."""
