"""The paths in a run's folder. Other programs read them, so their names must not change."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from autolora.configs.locations import from_home
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import read_json, remove
from autolora.engine.disk.paths import At

WANDB_ID = "wandb_id"


@dataclass(frozen=True)
class RunFolder:
    """Paths inside runs/<name>/."""

    root: Path

    config = At("config.yaml")
    wandb = At("wandb")
    wandb_id = At(WANDB_ID)
    """Entity, project and id of this folder's run on wandb's server; a resumed run continues its curves there."""
    search = At("search")
    trajectory = At("search/trajectory.parquet")
    search_metrics = At("search/metrics.jsonl")
    search_checkpoint = At("search/checkpoint.pt")
    search_weights = At("search/weights.safetensors")
    search_numbers = At("search/components.safetensors")
    search_summary = At("search/summary.json")
    measurement = At("measure/evidence.json")
    """What was measured of the search: ranks.json without ranks."""
    measured = At("measure/summary.json")
    ranks = At("ranks.json")
    lora_config = At("lora_config")
    """PEFT's LoraConfig at the recorded ranks, for other trainers."""
    grid = At("grid")
    grid_trials = At("grid/trials.json")
    sweep = At("sweep")
    sweep_trials = At("sweep/trials.json")
    retrain = At("retrain")
    trained = At("retrain/summary.json")
    """What the training cost; the last file of the stage."""
    retrain_metrics = At("retrain_metrics.jsonl")
    """The training loss and the learning rate over the steps of the retraining."""
    adapter = At("adapter")
    merged = At("merged")
    padded = At("adapter_padded")
    predictions = At("predictions.txt")
    predicted_rows = At("predictions.csv")
    """Classes and numbers: what the model predicts for each evaluated row."""
    references = At("references.txt")
    written = At("predictions.jsonl")
    """What a language model wrote, a JSON object a row: prompt, raw text, token ids."""
    samples = At("samples.jsonl")
    """Sampled answers of chat beside their references."""
    row_losses = At("row_losses.parquet")
    metrics = At("metrics.json")
    log = At("log.txt")
    """What the program said while it worked here, each line with its time."""
    probe = At("probe")
    probe_result = At("probe/probe.json")
    """What --stage probe measured: how near each hypergradient is to the exact one, and what its step costs."""
    verdict = At("verdict")
    """What --stage verdict trained: the ranks that it compares, and a run for each member of a pair."""
    verdict_summary = At("verdict.json")
    figures = At("figures")
    report = At("report.html")

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """The folder of a configured run."""
        return cls(Path(from_home(config.runs_folder)) / str(config.name))

    @property
    def parameters_per_rank(self) -> dict[str, int]:
        """Layer -> LoRA parameters of one component, as the search or the trials of ranks wrote them; empty if there
        was neither."""
        found = read_json(self.search_summary) or read_json(self.grid_trials)
        return dict(found.get("parameters_per_rank", {}))

    def clear_leftovers(self) -> None:
        """Removes what a stage keeps to go on from, and a kill at its end may have left."""
        searched, trained = self.search_summary.exists(), self.metrics.exists()
        old = [self.search_checkpoint] if searched else []
        for pattern in ("retrain/checkpoint-*", "retrain/wide-*", "sweep/trial-*") if trained else ():
            old += self.root.glob(pattern)
        for path in old:
            remove(path)

    @property
    def begun(self) -> bool:
        """Whether a stage has begun to train here: config.yaml is written just before."""
        return self.config.exists()
