"""What a command is told of the files that its --config names, or of the shipped one that stands in their place."""

import logging
import shlex
from functools import reduce
from pathlib import Path
from typing import Any

from configs.files import DEFAULT_CONFIG
from configs.requests import Request
from configs.unread import reason
from engine.run.folder import RunFolder
from engine.run.places import options_of

log = logging.getLogger("autolora")

WHERE = ("name", "runs_folder")
"""The keys that say in which folder a command works."""
# The settings that a run on own data most often needs otherwise.
_MAIN = (
    "search.steps", "search.learning_rate", "retrain.max_steps", "retrain.learning_rate", "lora.target_modules",
)  # fmt: skip


def options_of_source(request: Request) -> list[str]:
    """If --config is the config.yaml of a run that the command does not find, as the run was moved or the command
    began in another working folder: the options beside --config that find it. Else empty."""
    given = Path(request.source).absolute()
    beside = RunFolder(given.parent)
    if beside.config != given or not given.is_file() or "--runs_folder" not in (options := options_of(beside)):
        return []
    return options[2:]


def tell_of_other_folder(request: Request) -> None:
    """Warns if --config is the config.yaml of a run, but the command does not resume that run, as it began in another
    working folder; unless the command itself says in which folder it works."""
    beside = RunFolder(Path(request.source).absolute().parent)
    trained = any(path.exists() for path in (beside.search_checkpoint, beside.ranks, beside.metrics))
    if trained and not request.given.command & {*WHERE} and (options := options_of_source(request)):
        log.warning(
            "--config: %s is that of the run in %s, but this command works in %s; %s works in that run",
            request.source, beside.root, RunFolder.of(request.config).root.absolute(), shlex.join(options),
        )  # fmt: skip


def tell_of_hidden(request: Request) -> None:
    """Names each file here that --config reads instead of the shipped configuration of its name."""
    for path in request.hiding:
        log.info("--config reads %s, not the shipped configuration of that name", path)


def tell_of_values_left(request: Request) -> None:
    """Tells a command on own data without --config that the quickstart's settings hold, with the main ones."""
    if request.source == DEFAULT_CONFIG and request.config.task.type != "sample":
        log.info(
            "what the command does not set is as in %s%s; --config takes another file",
            request.source, _values_left(request),
        )  # fmt: skip


def _values_left(request: Request) -> str:
    """The main settings of a run on own data that the user left to the configuration, as words behind its name."""
    read = [key for key in _MAIN if request.given.where(key) is None and reason(key, request.config) is None]
    said = [f"{key} {_written(reduce(getattr, key.split('.'), request.config))}" for key in read]
    return f": {', '.join(said)}" if said else ""


def _written(value: Any) -> str:
    """A setting as it is written on the command line, a list without its brackets."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
