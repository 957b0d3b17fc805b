"""Where everything of a study lies."""

import dataclasses
from pathlib import Path
from typing import Self

from autolora.configs.files import load_config
from autolora.configs.places import from_home
from autolora.configs.schema import RunConfig
from autolora.engine.disk.paths import At
from autolora.engine.run.folder import WANDB_ID
from autolora.engine.terminal.console import console


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """Paths of a study: runs/<name>/ with a run folder for each cell."""

    root: Path

    config = At("config.yaml")
    wandb = At("wandb")
    wandb_id = At(WANDB_ID)
    cells = At("cells")
    results = At("results.parquet")
    table = At("table.md")
    figures = At("figures")
    report = At("report.html")

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """The folder of a configured study."""
        return cls(Path(from_home(config.runs_folder)) / str(config.name))


def print_study(folder: StudyFolder) -> None:
    """Prints how many cells have finished, the table, and the paths of the files."""
    finished = len(list(folder.cells.glob("*/metrics.json")))
    planned = f" of {len(load_config(folder.config).studied.places)}" if folder.config.exists() else ""
    console.print(f"{finished}{planned} cells have finished")
    if folder.table.exists():
        console.print(folder.table.read_text(encoding="utf-8"), highlight=False, markup=False, soft_wrap=True)
    for path in (folder.table, folder.results, folder.report):
        if path.exists():
            console.print(f"  {path}", highlight=False, soft_wrap=True)
