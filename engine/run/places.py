"""Paths in settings that differ between the cells of a study."""

from pathlib import Path

from configs.schema import RunConfig
from problems.tasks import make_task


def filled_in(path: str, config: RunConfig) -> Path:
    """The path with the run's own seed, task and runs_folder in the place of {seed}, {task} and {runs}."""
    for name, value in {"seed": config.seed, "task": make_task(config).name, "runs": config.runs_folder}.items():
        path = path.replace(f"{{{name}}}", str(value))
    return Path(path).expanduser()
