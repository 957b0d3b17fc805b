"""What is learned. `make_task` is the only way in."""

from __future__ import annotations

from configs.schema import RunConfig
from problems.tasks.base import Collate, Rows, Task
from problems.tasks.data_to_text import E2E, SourceTarget, WebNLG
from problems.tasks.glue import Glue
from problems.tasks.reviews import SampleReviews
from problems.tasks.table import TextTable
from problems.tasks.tagging import Tagging

__all__ = ["Collate", "Rows", "Task", "make_task"]


def make_task(config: RunConfig) -> Task:
    """The configured task. Raises UserError for a task that does not exist."""
    if config.task.type == "sample":
        return SampleReviews(config.task, config.seed)
    if config.task.type == "text":
        return TextTable(config.task, config.seed)
    if config.task.type == "tokens":
        return Tagging(config.task, config.seed)
    if config.task.type == "generation":
        benchmarks = {"e2e": E2E, "webnlg": WebNLG}
        if config.task.name in benchmarks:
            return benchmarks[config.task.name](config.task)
        return SourceTarget(config.task, config.seed)
    return Glue(config.task)
