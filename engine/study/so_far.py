"""The report of a study that still runs."""

import logging
import time

from autolora.configs.schema import RunConfig
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.study.cells import Cell
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.report import write_study_report
from autolora.engine.study.results import finished, write_results

log = logging.getLogger("autolora")

SECONDS_BETWEEN = 60.0
SHARE_OF_TIME = 0.05


class ReportSoFar:
    """Writes tables, figures and page of the finished cells while others still run, as a study may take days.

    It is called whenever a cell has ended. It writes at most once a minute, and waits longer if writing takes more
    than 5 % of the time. An error is logged and does not stop the study.
    """

    def __init__(self, config: RunConfig, folder: StudyFolder, cells: list[Cell]) -> None:
        self._config, self._folder, self._cells = config, folder, cells
        self._not_before = time.monotonic() + SECONDS_BETWEEN
        self._told = False

    def __call__(self) -> None:
        """Writes the report unless it was written a short while ago, or no cell has finished."""
        began = time.monotonic()
        if began < self._not_before:
            return
        try:
            self._write()
        except Interrupted:
            raise
        except Exception as error:
            log.warning("the report so far was not written (%s: %s); the study goes on", type(error).__name__, error)
        took = time.monotonic() - began
        self._not_before = time.monotonic() + max(SECONDS_BETWEEN, took / SHARE_OF_TIME)

    def _write(self) -> None:
        intact, _ = finished(self._cells)
        if not intact:
            return
        write_results(self._folder, intact)
        write_study_report(self._config, self._folder)
        if not self._told:
            log.info("the report so far, which grows with the study: %s", self._folder.report)
            self._told = True
