"""What the program says of keys that nothing reads."""

import dataclasses
from pathlib import Path

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.tell_unread import tell_unread
from autolora.engine.study.cells import expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.values import word


def runs_of(config: RunConfig) -> list[RunConfig]:
    """The run itself, or the cells of a study."""
    if not (config.study.axes or config.study.variants):
        return [config]
    return [dataclasses.replace(c.config, study=config.study) for c in expand(config, StudyFolder(Path("x")))]


def with_few_cells(config: RunConfig) -> RunConfig:
    """A study of two seeds and one task, whose cells read what all of them read."""
    few = {"seed": 2, "task.name": 1, "lora.draw": 2}
    axes = {key: values[: few.get(key, len(values))] for key, values in config.study.axes.items()}
    places = {word(value) for value in axes.get("task.name", ())}
    where = {axis: {p: m for p, m in more.items() if p in places} for axis, more in config.study.where.items()}
    return dataclasses.replace(config, study=dataclasses.replace(config.study, axes=axes, where=where, exclude=[]))


def told(request: Request) -> None:
    """Reports unread keys as the program does."""
    tell_unread(request.given, request.config, runs_of(request.config), request.stage)
