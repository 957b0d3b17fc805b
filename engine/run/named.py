"""What a command is told of the files that its --config names, or of the shipped one that stands in their place."""

import logging
import shlex
from functools import reduce
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.files import DEFAULT_CONFIG
from autolora.configs.places import from_home
from autolora.configs.requests import Request
from autolora.configs.unread import reason
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import options_of

log = logging.getLogger("autolora")

WHERE = ("name", "runs_folder")
"""The keys that say in which folder a command works."""
# The stages that work on results that exist.
_ON_RESULTS = ("retrain", "report", "verdict")
# The settings that a run on own data most often needs otherwise.
_MAIN = (
    "search.steps", "search.learning_rate", "retrain.max_steps", "retrain.learning_rate", "lora.target_modules",
)  # fmt: skip


def options_of_source(request: Request) -> list[str]:
    """If --config is the config.yaml of a run that the command does not find, as the run was moved or copied, or as
    the command began in another working folder: the options beside --config that find it. Else empty."""
    given = _file_of_name(request)
    beside = RunFolder(given.parent)
    if beside.config != given or not given.is_file() or "--runs_folder" not in (options := options_of(beside)):
        return []
    return options[2:]


def tell_of_other_folder(request: Request) -> None:
    """Warns if --config is the config.yaml of a run or a study, but the command works in another folder, although the
    user gave neither --name nor --runs_folder: the folder was moved or copied, or the command began in another working
    folder.

    Raises UserError instead where the command would act on the results of that other folder: a stage of `_ON_RESULTS`,
    or --overwrite."""
    beside = RunFolder(_file_of_name(request).parent)
    if _says_where(request) or not _holds_results(beside) or not (options := options_of_source(request)):
        return
    told = f"{beside.config} is that of the {'study' if _cells(beside) else 'run'} in {beside.root}, but this command"
    there, that = RunFolder.of(request.config).root.absolute(), shlex.join(options)
    if request.overwrite or request.stage in _ON_RESULTS:
        name = shlex.join(("--name", str(request.config.name)))
        raise UserError(f"--config: {told} would work in {there}; add {that} for the first, or {name} for the second")
    log.warning("--config: %s works in %s; add %s to work in the first", told, there, that)


def _file_of_name(request: Request) -> Path:
    """The file that names the folder of the command, where a file does; the last --config else."""
    return Path(from_home(request.given.files.get("name", request.source))).absolute()


def _says_where(request: Request) -> bool:
    """Whether the user says in which folder to work: on the command line, or in a file beside that of the run."""
    given = request.given
    return bool(given.command & {*WHERE}) or len({given.files[key] for key in WHERE if key in given.files}) > 1


def _holds_results(folder: RunFolder) -> bool:
    """Whether a stage has written results here; else config.yaml may be just a file with settings."""
    results = (folder.search_checkpoint, folder.ranks, folder.retrain, folder.metrics)
    return any(path.exists() for path in results) or _cells(folder)


def _cells(folder: RunFolder) -> bool:
    """Whether this is the folder of a study."""
    return any(folder.root.glob("cells/*/config.yaml"))


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
