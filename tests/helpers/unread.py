"""What the program says of keys that nothing reads, and the data that the tests of it name."""

import dataclasses
from pathlib import Path

from configs.requests import Request
from configs.schema import RunConfig
from configs.tell_unread import tell_unread
from engine.study.cells import expand
from engine.study.folder import StudyFolder

DATA = ("--task.type", "text", "--task.path", "x.csv")
CHAT = ("--task.type", "chat", "--task.path", "x.jsonl")
PAIRS = ("--task.type", "generation", "--task.path", "x.jsonl")


def runs_of(config: RunConfig) -> list[RunConfig]:
    """The run itself, or the cells of a study."""
    if not (config.study.axes or config.study.variants):
        return [config]
    return [dataclasses.replace(c.config, study=config.study) for c in expand(config, StudyFolder(Path("x")))]


def told(request: Request) -> None:
    """Reports unread keys as the program does."""
    tell_unread(request.given, request.config, runs_of(request.config))
