"""What is learned. `make_task` creates the configured task."""

from autolora.configs import tasks
from autolora.configs.schema import RunConfig
from autolora.problems.tasks.base import Task
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.tags import Tags
from autolora.problems.tasks.texts import Texts

__all__ = ["Task", "make_task"]

TASKS: dict[type[tasks.TaskSettings], type[Task]] = {
    tasks.Table: Texts,
    tasks.Tokens: Tags,
    tasks.Chat: Conversations,
}


def make_task(config: RunConfig) -> Task:
    """The configured task; nothing is read yet."""
    return TASKS[type(config.task)](config.task, config.data_seed)
