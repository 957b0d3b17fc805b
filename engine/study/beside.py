"""The part about a study on the page of one of its cells."""

import logging

from autolora.configs.errors import UserError
from autolora.engine.report.stage import Beside
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.charts import metric_charts
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.rows import SEED, TASK, axes_of, read_results, texts
from autolora.engine.study.tables import summarise

log = logging.getLogger("autolora")


def beside(folder: RunFolder) -> Beside | None:
    """The results of the same task in the study to which this run belongs.

    None if the run is no cell of a study, if the study has no results yet, or (with a warning) if they are damaged.
    """
    study = StudyFolder(folder.root.parent.parent)
    if folder.root.parent != study.cells or not study.results.exists():
        return None
    try:
        results = read_results(study.results)
    except UserError as error:
        log.warning("the report leaves out the results of the study: %s", error)
        return None
    axes, own = axes_of(results), results[results["cell"] == folder.root.name]
    # If the study's results are older than this run, they do not tell its task: the runs of all tasks are shown.
    alike = results[results[TASK].isin(own[TASK])] if len(own) else results
    table = summarise(alike, axes)
    rows, keys = texts(table), len([axis for axis in axes if axis != SEED]) or 1
    place = texts(summarise(own, axes))[0][:keys] if len(own) else None
    mine = next((number for number, row in enumerate(rows) if row[:keys] == place), None)
    return Beside(study.root.name, list(table.columns), rows, mine, metric_charts(alike, axes))
