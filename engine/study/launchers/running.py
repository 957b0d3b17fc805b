"""Which cells wait, run and have ended, where several run at a time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from engine.study.launchers.base import Job

log = logging.getLogger("autolora")


class Running:
    """The state of `jobs`; each may be begun again `retries` times after its worker died."""

    def __init__(self, jobs: Sequence[Job], retries: int) -> None:
        self.failed: list[str] = []
        self._jobs = list(jobs)
        self._retries = retries
        self._waiting = list(jobs)
        self._open = {job.name for job in jobs}
        self._deaths: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        """Whether every job has ended."""
        return not self._open

    def ready(self) -> list[Job]:
        """The jobs that may begin now, in their order; they no longer wait afterwards."""
        found = [job for job in self._waiting if not job.after & self._open]
        self._waiting = [job for job in self._waiting if job not in found]
        return found

    def ended(self, job: Job, error: str | None) -> None:
        """A job is done, or has failed for good."""
        self._open.discard(job.name)
        done = len(self._jobs) - len(self._open)
        log.info("cell %d of %d %s: %s", done, len(self._jobs), "failed" if error else "finished", job.name)
        if error:
            self.failed.append(f"{job.name}: {error}")

    def died(self, job: Job, why: str) -> None:
        """The worker of a job is gone: it waits again, or has failed when this has happened too often."""
        self._deaths[job.name] += 1
        if self._deaths[job.name] > self._retries:
            self.ended(job, f"its worker died {self._deaths[job.name]} times ({why}); --study.ray.retries")
            return
        log.warning("cell %s: its worker died (%s); it goes on from its last checkpoint", job.name, why)
        self._waiting.append(job)
