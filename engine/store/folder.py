"""The paths in a run's folder. Other programs read them, so their names must not change."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from autolora.configs.locations import from_home
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import read_json, remove

WANDB_ID = "wandb_id"


def at(relative: str) -> "cached_property[Path]":
    """An attribute of a class that gives, on an instance, a path under the instance's `root`."""

    def path(folder: Any) -> Path:
        return Path(folder.root / relative)

    return cached_property(path)


@dataclass(frozen=True)
class RunFolder:
    """Paths inside runs/<name>/."""

    root: Path

    config = at("config.yaml")
    search = at("search")
    trajectory = at("search/trajectory.parquet")
    search_metrics = at("search/metrics.jsonl")
    search_checkpoint = at("search/checkpoint.pt")
    search_weights = at("search/weights.safetensors")
    search_numbers = at("search/components.safetensors")
    search_summary = at("search/summary.json")
    measurement = at("measure/evidence.json")
    """What was measured of the search: ranks.json without ranks."""
    measured = at("measure/summary.json")
    ranks = at("ranks.json")
    lora_config = at("lora_config")
    """PEFT's LoraConfig at the recorded ranks, for other trainers."""
    grid = at("grid")
    grid_trials = at("grid/trials.json")
    sweep = at("sweep")
    sweep_trials = at("sweep/trials.json")
    retrain = at("retrain")
    trained = at("retrain/summary.json")
    """What the training cost; the last file of the stage."""
    retrain_metrics = at("retrain_metrics.jsonl")
    """The training loss and the learning rate over the steps of the retraining."""
    adapter = at("adapter")
    merged = at("merged")
    padded = at("adapter_padded")
    predictions = at("predictions.txt")
    predicted_rows = at("predictions.csv")
    """Classes and numbers: what the model predicts for each evaluated row."""
    references = at("references.txt")
    written = at("predictions.jsonl")
    """What a language model wrote, a JSON object a row: prompt, raw text, token ids."""
    samples = at("samples.jsonl")
    """Sampled answers of chat beside their references."""
    row_losses = at("row_losses.parquet")
    metrics = at("metrics.json")
    log = at("log.txt")
    """What the program said while it worked here, each line with its time."""
    probe = at("probe")
    probe_result = at("probe/probe.json")
    """What --stage probe measured: how near each hypergradient is to the exact one."""
    verdict = at("verdict")
    """What --stage verdict trained: the ranks that it compares, and a run for each member of a
    pair."""
    verdict_summary = at("verdict.json")
    figures = at("figures")
    report = at("report.html")

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """The folder of a configured run."""
        return cls(Path(from_home(config.runs_folder)) / str(config.name))

    @property
    def parameters_per_rank(self) -> dict[str, int]:
        """Layer -> LoRA parameters of one component, as the search or the trials of ranks wrote
        them; empty if there was neither."""
        found = read_json(self.search_summary) or read_json(self.grid_trials)
        return dict(found.get("parameters_per_rank", {}))

    def clear_leftovers(self) -> None:
        """Removes what a stage keeps to go on from, and a kill at its end may have left."""
        if self.search_summary.exists():
            remove(self.search_checkpoint)
        if self.metrics.exists():
            for pattern in ("retrain/checkpoint-*", "retrain/wide-*", "sweep/trial-*"):
                for path in self.root.glob(pattern):
                    remove(path)

    @property
    def begun(self) -> bool:
        """Whether a stage has begun to train here: config.yaml is written just before."""
        return self.config.exists()
