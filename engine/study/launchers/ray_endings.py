"""How a job on Ray has ended: its result, its error, or the death of its worker."""

import logging
from collections.abc import Sequence
from typing import Any

from autolora.engine.run.interrupt import Interrupted
from autolora.engine.study.launchers.base import RETRIES, Job, Running
from autolora.engine.study.launchers.ray_worker import WARNED, Warned
from autolora.engine.terminal.console import inputs

log = logging.getLogger("autolora")


def take(ray: Any, reference: Any, job: Job, running: Running) -> None:
    """Records how a job ended, and logs what its worker warned of."""
    try:
        warned = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause or error
        _tell(job, getattr(cause, WARNED, []))
        if isinstance(cause, Interrupted):
            running.died(job, "stopped by a signal")
        else:
            running.broke(job, cause, str(error))
    except ray.exceptions.RayError as error:
        # Not the fault of the cell: the worker was killed, ran out of memory, or its machine went away.
        running.died(job, type(error).__name__, _way_out(ray, error))
    else:
        _tell(job, warned)
        running.ended(job)


def _tell(job: Job, warned: Sequence[Warned]) -> None:
    """Logs the warnings of a worker. Those about rows and model are the same in many cells, and are told once."""
    for name, line in warned:
        if name == inputs.name:
            inputs.warning("%s", line)
        else:
            log.warning("cell %s: %s", job.name, line)


def _way_out(ray: Any, error: Exception) -> str:
    """What to do about a cell whose workers all died of `error`."""
    fewer = "a larger --study.ray.cpus runs fewer cells at a time, so that each has more memory"
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return fewer
    killed = isinstance(error, ray.exceptions.WorkerCrashedError)
    return RETRIES + (f"; if memory ran out, {fewer}" if killed else "")
