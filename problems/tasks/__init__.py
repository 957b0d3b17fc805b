"""What is learned. `make_task` creates the configured task."""

from autolora.configs import tasks
from autolora.problems.tasks.base import Task, Trained
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.tags import Tags
from autolora.problems.tasks.texts import Texts

__all__ = ["Task", "make_task"]

TASKS: dict[type[tasks.TaskSettings], type[Task]] = {
    tasks.Table: Texts,
    tasks.Tokens: Tags,
    tasks.Chat: Conversations,
}


def make_task(settings: tasks.TaskSettings, seed: int, trained: Trained | None = None) -> Task:
    """The task of these settings; nothing is read yet. `seed`: of all draws from the data;
    `trained`: the model, if nothing is learned."""
    return TASKS[type(settings)](settings, seed, trained)
