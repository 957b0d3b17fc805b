"""Where everything of a study lies."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from configs.schema import Stage
from engine.run_folder import WANDB_ID


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
        """What a stage of a study writes: the report is made of the cells and the probe, which stay."""
        reported = [self.results, self.summary, self.table, self.figures, self.report]
        run = [self.config, self.cells, self.probe, self.cost, self.wandb_id]
        return reported if stage == "report" else run + reported
