"""What is learned. `make_task` creates the configured task."""

from collections.abc import Callable
from typing import Any

from autolora.configs import tasks
from autolora.configs.places import from_home
from autolora.configs.schema import RunConfig
from autolora.problems.tasks.base import Collate, Rows, Task
from autolora.problems.tasks.chat import Chats
from autolora.problems.tasks.data_to_text import E2E, SourceTarget, WebNLG
from autolora.problems.tasks.glue import Glue
from autolora.problems.tasks.reviews import SampleReviews
from autolora.problems.tasks.table import TextTable
from autolora.problems.tasks.tagging import Tagging

__all__ = ["Collate", "Rows", "Task", "make_task"]


TASKS: dict[type[tasks.TaskSettings], Callable[[Any, int], Task]] = {
    tasks.Sample: SampleReviews,
    tasks.Table: TextTable,
    tasks.Tokens: Tagging,
    tasks.Generation: SourceTarget,
    tasks.Chat: Chats,
    tasks.Glue: Glue,
}
_BENCHMARKS: dict[str, Callable[[tasks.Generation], Task]] = {"e2e": E2E, "webnlg": WebNLG}


def make_task(config: RunConfig) -> Task:
    """The configured task; '~' at the beginning of a path is the user's home."""
    files = config.task.files
    task = config.task.model_copy(update={key: from_home(path) for key, path in files.items()})
    if isinstance(task, tasks.Generation) and task.benchmark:
        return _BENCHMARKS[task.benchmark](task)
    return TASKS[type(task)](task, config.data_seed)
