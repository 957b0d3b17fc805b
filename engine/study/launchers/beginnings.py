"""Tell which cells have begun, for a launcher that does not begin them itself."""

import logging
import time

from autolora.engine.study.launchers.base import Job

log = logging.getLogger("autolora")

SECONDS_BETWEEN_LOOKS = 5.0


class Beginnings:
    """Logs a line when a cell begins or resumes: it then writes its config.yaml.

    Ray takes all jobs at once and begins each when there is room, on a machine of its choice, so only the folders tell
    which cells run. They are looked at every five seconds at most, as they may be on a network's disk.
    """

    def __init__(self) -> None:
        self._expected: dict[str, tuple[Job, int]] = {}
        self._last_look = time.monotonic()

    def expect(self, job: Job) -> None:
        """Watches the folder of a job that may begin now."""
        self._expected[job.name] = (job, _written(job))

    def look(self) -> None:
        """Tells of the cells that have begun since the last look."""
        if time.monotonic() - self._last_look < SECONDS_BETWEEN_LOOKS:
            return
        self._last_look = time.monotonic()
        for name, (job, before) in list(self._expected.items()):
            if _written(job) != before:
                log.info("cell begins: %s", name)
                self.forget(job)

    def forget(self, job: Job) -> None:
        """No longer watches the folder of a job."""
        self._expected.pop(job.name, None)


def _written(job: Job) -> int:
    """When the config.yaml of the job's run was last written, in nanoseconds; 0 if there is none."""
    try:
        return job.folder.config.stat().st_mtime_ns if job.folder is not None else 0
    except OSError:
        return 0
