"""What is learned. `make_task` creates the configured task."""

import dataclasses
from collections.abc import Callable

from autolora.configs.facts import data_seed
from autolora.configs.places import from_home
from autolora.configs.recipe import is_benchmark
from autolora.configs.schema import RunConfig, TaskConfig
from autolora.problems.tasks.base import Collate, Rows, Task
from autolora.problems.tasks.chat import Chats
from autolora.problems.tasks.data_to_text import E2E, SourceTarget, WebNLG
from autolora.problems.tasks.glue import Glue
from autolora.problems.tasks.reviews import SampleReviews
from autolora.problems.tasks.table import TextTable
from autolora.problems.tasks.tagging import Tagging

__all__ = ["Collate", "Rows", "Task", "make_task"]


# The tasks by `task.type`, and the benchmarks of type generation by `task.name`. To add a type, also name it in
# `TaskConfig.type` (and in WITHOUT_HEAD of configs/facts.py if its models have no task head), refuse in
# configs/task_rules.py what it cannot use, and check in configs/unread.py which keys do nothing for it. Exclude it in
# `own_data` of configs/recipe.py if its rows are not the user's own, where a new benchmark is named in BENCHMARKS.
_BY_TYPE: dict[str, Callable[[TaskConfig, int], Task]] = {
    "sample": SampleReviews, "text": TextTable, "tokens": Tagging, "generation": SourceTarget,
    "chat": Chats, "glue": lambda task, seed: Glue(task),
}  # fmt: skip
_BENCHMARKS: dict[str | None, Callable[[TaskConfig], Task]] = {"e2e": E2E, "webnlg": WebNLG}


def make_task(config: RunConfig) -> Task:
    """The configured task. Raises UserError for a task that does not exist."""
    task = _from_home(config.task)
    if is_benchmark(task):
        return _BENCHMARKS[task.name](task)
    return _BY_TYPE[task.type](task, data_seed(config))


def _from_home(task: TaskConfig) -> TaskConfig:
    """The same settings, with the user's home in place of a '~' at the beginning of each path."""

    def expanded(path: str | None) -> str | None:
        return None if path is None else from_home(path)

    places = expanded(task.path), expanded(task.validation_path), expanded(task.test_path)
    return dataclasses.replace(task, path=places[0], validation_path=places[1], test_path=places[2])
