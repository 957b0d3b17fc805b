"""Paths in settings that differ between the cells of a study, and the options that name a run's folder."""

from pathlib import Path

from autolora.configs.files import load_config
from autolora.configs.recipe import task_name
from autolora.configs.schema import RunConfig
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.settling import Places


def filled_in(path: str, config: RunConfig) -> Path:
    """The path with {seed}, {task} and {runs} replaced by the run's own seed, task and runs_folder."""
    for name, value in {"seed": config.seed, "task": task_name(config.task), "runs": config.runs_folder}.items():
        path = path.replace(f"{{{name}}}", str(value))
    return Path(path).expanduser()


def options_of(folder: RunFolder) -> list[str]:
    """The options with which a command works in a run's folder, or in that of the new results of an overwrite. If the
    folder was moved after its config.yaml was written, they include --name and --runs_folder, as config.yaml still
    holds the old values."""
    config = ["--config", str(folder.config)]
    if not folder.config.exists():
        return config
    here, named = folder.root.resolve(), RunFolder.of(load_config(folder.config)).root
    if Places.of(named).growing == here:
        return [*config, "--overwrite"]
    return [*config, "--name", here.name, "--runs_folder", str(here.parent)] if named.resolve() != here else config
