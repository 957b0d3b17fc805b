"""Where everything of one run lies: the run folder is a contract that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.schema import Stage
from engine.disk.files import remove

# The name of this folder's run at wandb's server: what goes on here goes on there.
WANDB_ID = "wandb_id"


@dataclass(frozen=True)
class RunFolder:
    """Paths inside runs/<name>/."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def wandb_id(self) -> Path:
        return self.root / WANDB_ID

    @property
    def search(self) -> Path:
        return self.root / "search"

    @property
    def trajectory(self) -> Path:
        return self.search / "trajectory.parquet"

    @property
    def search_metrics(self) -> Path:
        return self.search / "metrics.jsonl"

    @property
    def search_checkpoint(self) -> Path:
        return self.search / "checkpoint"

    @property
    def search_weights(self) -> Path:
        return self.search / "weights.safetensors"

    @property
    def search_summary(self) -> Path:
        return self.search / "summary.json"

    @property
    def search_config(self) -> Path:
        return self.search / "config.yaml"

    @property
    def ranks(self) -> Path:
        return self.root / "ranks.json"

    @property
    def retrain(self) -> Path:
        return self.root / "retrain"

    @property
    def grid(self) -> Path:
        return self.root / "grid.json"

    @property
    def sweep(self) -> Path:
        return self.root / "sweep.json"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def merged(self) -> Path:
        return self.root / "merged"

    @property
    def padded(self) -> Path:
        return self.root / "adapter_padded"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.txt"

    @property
    def references(self) -> Path:
        return self.root / "references.txt"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def clear_leftovers(self) -> None:
        """Removes what a kill after a stage's last file left of the stage's checkpoints."""
        if self.ranks.exists():
            remove(self.search_checkpoint)
            remove(self.search_checkpoint.with_name(f"{self.search_checkpoint.name}.previous"))
        if self.metrics.exists():
            remove(self.retrain)
            remove(self.trials)

    def outputs(self, stage: Stage) -> list[Path]:
        """What a stage writes."""
        searched = [self.wandb_id, self.search, self.grid, self.ranks]
        retrained = [self.sweep, self.trials, self.retrain, self.adapter, self.merged, self.padded]
        retrained += [self.predictions, self.references, self.metrics]
        reported = [self.figures, self.report]
        return {
            "all": searched + retrained + reported,
            # What was retrained at the ranks of before is no longer this run's.
            "search": searched + retrained + reported,
            "retrain": retrained + reported,
            "report": reported,
        }[stage]
