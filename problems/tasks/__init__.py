"""What is learned. `make_task` creates the configured task."""

from collections.abc import Callable

from configs.recipe import is_benchmark
from configs.rules import data_seed
from configs.schema import RunConfig, TaskConfig
from problems.tasks.base import Collate, Rows, Task
from problems.tasks.chat import Chats
from problems.tasks.data_to_text import E2E, SourceTarget, WebNLG
from problems.tasks.glue import Glue
from problems.tasks.reviews import SampleReviews
from problems.tasks.table import TextTable
from problems.tasks.tagging import Tagging

__all__ = ["Collate", "Rows", "Task", "make_task"]


# The tasks by `task.type`, and the benchmarks of type generation by `task.name`.
_BY_TYPE: dict[str, Callable[[TaskConfig, int], Task]] = {
    "sample": SampleReviews, "text": TextTable, "tokens": Tagging, "generation": SourceTarget,
    "chat": Chats, "glue": lambda task, seed: Glue(task),
}  # fmt: skip
_BENCHMARKS: dict[str | None, Callable[[TaskConfig], Task]] = {"e2e": E2E, "webnlg": WebNLG}


def make_task(config: RunConfig) -> Task:
    """The configured task. Raises UserError for a task that does not exist."""
    task = config.task
    if is_benchmark(task):
        return _BENCHMARKS[task.name](task)
    return _BY_TYPE[task.type](task, data_seed(config))
