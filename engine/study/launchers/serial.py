"""One cell after the other in this process."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from configs.errors import UserError
from configs.schema_study import StudyConfig
from engine.run.interrupt import Interrupted, StopRequest
from engine.stages import run_stages
from engine.study.launchers.base import Job

log = logging.getLogger("autolora")


def serially(jobs: Sequence[Job], settings: StudyConfig, stop: StopRequest) -> list[str]:
    """Jobs in their order; each comes after those that it reads (`in_order`)."""
    failed = []
    for number, job in enumerate(jobs, start=1):
        log.info("cell %d of %d: %s", number, len(jobs), job.name)
        try:
            run_stages(job.request(), stop, draw=False)
        except Interrupted:
            raise
        except UserError as error:
            failed.append(f"{job.name}: {error}")
        except Exception as error:
            log.exception("cell %s failed", job.name)
            failed.append(f"{job.name}: {error}")
    return failed
