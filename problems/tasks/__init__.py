"""What is learned. `make_task` creates the configured task."""

from collections.abc import Callable
from typing import Any

from autolora.configs import tasks
from autolora.configs.places import from_home
from autolora.configs.schema import RunConfig
from autolora.problems.tasks.base import Collate, Rows, Task
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.tags import Tags
from autolora.problems.tasks.texts import Texts

__all__ = ["Collate", "Rows", "Task", "make_task"]


TASKS: dict[type[tasks.TaskSettings], Callable[[Any, int], Task]] = {
    tasks.Sample: Texts,
    tasks.Table: Texts,
    tasks.Glue: Texts,
    tasks.Tokens: Tags,
    tasks.Chat: Conversations,
}


def make_task(config: RunConfig) -> Task:
    """The configured task; '~' at the beginning of a path is the user's home."""
    files = config.task.files
    task = config.task.model_copy(update={key: from_home(path) for key, path in files.items()})
    return TASKS[type(task)](task, config.data_seed)
