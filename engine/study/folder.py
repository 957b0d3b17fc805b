"""Where everything of a study lies."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from configs.errors import UserError
from configs.schema import Stage
from engine.run.folder import WANDB_ID, RunFolder


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """Paths of a study: runs/<name>/ with a run folder for each cell."""

    root: Path

    @property
    def cells(self) -> Path:
        return self.root / "cells"

    @property
    def results(self) -> Path:
        return self.root / "results.parquet"

    @property
    def probe(self) -> Path:
        return self.root / "probe.parquet"

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def summary(self) -> Path:
        return self.root / "summary.parquet"

    @property
    def cost(self) -> Path:
        return self.root / "cost.parquet"

    @property
    def table(self) -> Path:
        return self.root / "table.md"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def wandb_id(self) -> Path:
        return self.root / WANDB_ID

    def outputs(self, stage: Stage = "all") -> list[Path]:
        """What a study writes; of stage report, what is drawn from the cells."""
        drawn = [self.results, self.summary, self.table, self.figures, self.report]
        return drawn if stage == "report" else [self.cells, self.probe, self.cost, self.config, self.wandb_id, *drawn]


def refuse_single_run(folder: StudyFolder) -> None:
    """Raises UserError when a run that is no study was begun in the folder, also where it may be overwritten: a study
    clears what a study wrote."""
    shared = folder.outputs()
    if any(path.exists() for path in RunFolder(folder.root).outputs("all") if path not in shared):
        raise UserError(f"--name: {folder.root} holds a single run; name the study otherwise")


def refuse_study(root: Path) -> None:
    """Raises UserError when a study was begun in the folder of a single run, as above."""
    folder = StudyFolder(root)
    if folder.cells.exists() or folder.results.exists():
        raise UserError(f"--name: {root} holds a study; name the run otherwise")
