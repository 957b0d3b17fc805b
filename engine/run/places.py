"""Paths in settings that differ between the cells of a study, and the options that name a run's folder."""

import shlex
from pathlib import Path

from autolora.configs.files import load_config
from autolora.configs.launch import program
from autolora.configs.recipe import task_name
from autolora.configs.schema import RunConfig
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.settling import Places


def filled_in(path: str, config: RunConfig) -> Path:
    """The path with {seed}, {task} and {runs} replaced by the run's own seed, task and runs_folder."""
    for name, value in {"seed": config.seed, "task": task_name(config.task), "runs": config.runs_folder}.items():
        path = path.replace(f"{{{name}}}", str(value))
    return Path(path).expanduser()


def options_of(folder: RunFolder, name: str | None = None) -> list[str]:
    """The options with which a command works in a run's folder, or in that of the new results of an overwrite. If the
    folder was moved after its config.yaml was written, they include --name and --runs_folder, as config.yaml still
    holds the old values.

    `name`: that of another run with the same settings, beside the run or, if this is a cell of a study, beside the
    study, as an overwrite of the study would remove it."""
    config = ["--config", str(folder.config)]
    if not folder.config.exists():
        return config + (["--name", name] if name else [])
    here, named = folder.root.resolve(), RunFolder.of(load_config(folder.config)).root
    if name is None and Places.of(named).growing == here:
        return [*config, "--overwrite"]
    moved, beside_study = named.resolve() != here, name is not None and is_cell(folder)
    called = ["--name", name or here.name] if name or moved else []
    place = here.parent.parent.parent if beside_study else here.parent
    return [*config, *called, *(["--runs_folder", str(place)] if moved or beside_study else [])]


def sibling_name(folder: RunFolder, suffix: str) -> str:
    """The name of a further run beside this one, shortened to the 100 letters that a name may have; that of a cell
    begins with the study's."""
    name = f"{folder.root.parent.parent.name}-{folder.root.name}" if is_cell(folder) else folder.root.name
    return f"{name[: 100 - len(suffix) - 1]}-{suffix}"


def is_cell(folder: RunFolder) -> bool:
    """Whether the run is a cell of a study."""
    return folder.root.parent.name == "cells"


def command_of(folder: RunFolder, name: str | None = None) -> str:
    """The beginning of a command with `options_of`."""
    return f"{program()} {shlex.join(options_of(folder, name))}"
