"""Paths in settings that differ between the cells of a study."""

from pathlib import Path

from autolora.configs.schema import RunConfig


def filled_in(path: str, config: RunConfig) -> Path:
    """The path with {seed}, {task} and {runs} replaced by the run's own seed, task and runs_folder."""
    for name, value in {"seed": config.seed, "task": config.task.result_name, "runs": config.runs_folder}.items():
        path = path.replace(f"{{{name}}}", str(value))
    return Path(path).expanduser()
