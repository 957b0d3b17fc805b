"""Where everything of a study lies."""

import dataclasses
from pathlib import Path
from typing import Self

from autolora.configs.count_words import counted
from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.places import from_home
from autolora.configs.schema import RunConfig, Stage
from autolora.engine.disk.paths import At
from autolora.engine.run.asked import AskedOf
from autolora.engine.run.folder import WANDB_ID, RunFolder
from autolora.engine.study.combinations import combinations
from autolora.engine.terminal.console import console


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """Paths of a study: runs/<name>/ with a run folder for each cell."""

    root: Path

    config = At("config.yaml")
    wandb = At("wandb", folder=True)
    wandb_id = At(WANDB_ID)
    cells = At("cells", folder=True)
    results = At("results.parquet")
    summary = At("summary.parquet")
    table = At("table.md")
    figures = At("figures", folder=True)
    report = At("report.html")
    probe = At("probe.parquet")
    cost = At("cost.parquet")
    probe_settings = At("probe.json")

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """The folder of a configured study."""
        return cls(Path(from_home(config.runs_folder)) / str(config.name))

    def at(self, root: Path) -> Self:
        """The same folder at another place."""
        return type(self)(root)

    @property
    def begun(self) -> bool:
        """Whether a cell or the comparison has begun to train here."""
        return bool(self.cells_begun) or self.probe.exists()

    @property
    def cells_begun(self) -> set[Path]:
        """The config.yaml of every cell that has begun to train."""
        return set(self.cells.glob("*/config.yaml"))

    def patterns(self) -> list[str]:
        """Patterns of everything that a study and its cells write here, wandb's folders excluded."""
        names = [path.name for path in self.outputs() if path != self.cells]
        of_cells = [f"cells/*/{pattern}" for pattern in RunFolder(self.root).patterns()]
        return [*names, *(f".{name}.tmp" for name in names), "cells/.*", *of_cells]

    def also_lost(self, stage: Stage) -> str:
        """The verdicts on cells. (`engine/study/stage.py` names the cells that a changed study no longer has.)"""
        judged = sum(RunFolder(path.parent).verdict_summary.exists() for path in self.cells_begun)
        return f"verdicts on {counted(judged, 'cell')}" if judged and stage == "all" else ""

    def outputs(self, stage: Stage = "all") -> list[Path]:
        """The paths that a study writes; for stage report, those that are drawn from the cells."""
        drawn = [self.results, self.summary, self.table, self.figures, self.report]
        return drawn if stage == "report" else [
            self.cells, self.probe, self.cost, self.probe_settings, self.config, self.wandb_id, *drawn,
        ]  # fmt: skip


def print_study(folder: StudyFolder) -> None:
    """Prints how many cells have finished, the table, and the paths of the files."""
    finished = len(list(folder.cells.glob("*/metrics.json")))
    planned = f" of {len(list(combinations(load_config(folder.config).studied)))}" if folder.config.exists() else ""
    console.print(f"{finished}{planned} cells have finished")
    if folder.table.exists():
        console.print(folder.table.read_text(encoding="utf-8"), highlight=False, markup=False, soft_wrap=True)
    for path in (folder.table, folder.results, folder.report):
        if path.exists():
            console.print(f"  {path}", highlight=False, soft_wrap=True)


AskedOfStudy = AskedOf[StudyFolder]
"""What a command asks of the folder of a study."""


def refuse_single_run(asked: AskedOfStudy) -> None:
    """Refuses a study in a single run's folder, even with --overwrite, which would clear the run's files."""
    folder, shared = asked.folder, asked.folder.outputs()
    if any(path.exists() for path in RunFolder(folder.root).outputs("all") if path not in shared):
        raise UserError(f"--name: {folder.root} holds a single run; give the study another name")
