"""Refuse settings of the section `task` that its type lacks or does not allow, before torch is loaded."""

from collections.abc import Iterator
from pathlib import Path

from autolora.configs.endings import CHATS, OF_FILES, TABLES, TAGGED, ending
from autolora.configs.errors import refusal
from autolora.configs.glue import GLUE
from autolora.configs.keys import as_written
from autolora.configs.metrics import refused_metrics
from autolora.configs.places import from_home
from autolora.configs.recipe import is_benchmark, own_data
from autolora.configs.schema import RunConfig, TaskConfig

SPLITS = ("validation", "test")
"""The splits that are evaluated, of the sample and of a user's files."""


def task_refusals(config: RunConfig) -> Iterator[str]:
    """Messages about settings that the type of the task lacks or does not allow."""
    task = config.task
    where = f"for --task.type {task.type}"
    if (task.evaluation_split or "").startswith("train"):  # such as train_sft of a chat
        allowed = "a split that is not trained on, such as validation"
        yield refusal("task.evaluation_split", f"'{task.evaluation_split}'", "as its rows are trained on", allowed)
    if task.type == "glue" and task.name not in GLUE:
        yield refusal("task.name", as_written(task.name), where, ", ".join(GLUE))
    if task.type == "text" and task.path is None:
        yield refusal("task.path", "null", where, f"a {', '.join(TABLES)}")
    if task.type == "tokens" and task.path is None:
        instead = f"a {', '.join(TAGGED)}, a folder with train, validation and test of these, or a hub name"
        yield refusal("task.path", "null", where, instead)
    if task.type == "chat" and task.path is None:
        yield refusal("task.path", "null", where, f"a {', '.join(CHATS)}, a folder, or a hub name")
    if task.type == "chat" and task.kind == "regression":
        yield refusal("task.kind", "'regression'", where, "classification")
    if task.type == "generation" and task.path is None and not is_benchmark(task):
        yield refusal("task.path", "null", f"{where} unless --task.name is e2e or webnlg", f"a {', '.join(TABLES)}")
    if task.type in ("tokens", "generation"):
        instead = f"null, or the one column with the {'words' if task.type == 'tokens' else 'source'}"
        if task.text_columns is not None and len(task.text_columns) > 1:
            yield refusal("task.text_columns", task.text_columns, where, instead)
        if task.kind == "regression":
            yield refusal("task.kind", "'regression'", where, "classification")
    yield from refused_metrics(task)
    yield from _split_refusals(task)


def _split_refusals(task: TaskConfig) -> Iterator[str]:
    """Messages about a split to evaluate that does not exist, as far as the settings and the path of the rows tell."""
    split = task.evaluation_split
    if split is None:
        return
    if task.type == "sample" and split not in SPLITS:
        yield refusal("task.evaluation_split", repr(split), "for --task.type sample", ", ".join(SPLITS))
    if _in_files(task) and (message := missing_split(task, split)):
        yield message


def missing_split(task: TaskConfig, split: str) -> str | None:
    """Why a task whose rows are in files of the user's has no rows of this split; None if it has some."""
    if split not in SPLITS:
        return f"--task.evaluation_split: {split!r} is not allowed; allowed: {', '.join(SPLITS)}"
    if split == "test" and task.test_path is None:
        return "--task.evaluation_split: 'test' needs --task.test_path"
    return None


def _in_files(task: TaskConfig) -> bool:
    """Whether the rows are surely in files that are named one by one: not in a folder or a data set of the hub."""
    if not own_data(task) or task.path is None:
        return False
    tables = task.type in ("text", "generation")
    path = Path(from_home(task.path))
    return tables or path.is_file() or (ending(path) in OF_FILES and not path.is_dir())
