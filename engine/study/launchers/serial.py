"""One cell after the other in this process."""

import logging

from autolora.configs.study import StudyConfig
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages
from autolora.engine.study.launchers.base import Running

log = logging.getLogger("autolora")


def serially(running: Running, settings: StudyConfig, stop: StopRequest) -> list[str]:
    """Runs the jobs in their order, each after the jobs whose files it reads."""
    for job in iter(running.take, None):
        log.info("cell %d of %d: %s", running.done + 1, running.total, job.name)
        try:
            run_stages(job.request(), stop, draw=False)
            running.ended(job)
        except Interrupted:
            raise
        except Exception as error:
            running.broke(job, error)
    return running.failed
