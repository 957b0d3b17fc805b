"""The paths in a run's folder. Other programs read them, so their names must not change."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from autolora.configs.places import from_home
from autolora.configs.schema import RunConfig, Stage
from autolora.engine.disk.files import remove
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
    search_checkpoint = At("search/checkpoint.safetensors")
    search_weights = At("search/weights.safetensors")
    search_numbers = At("search/components.safetensors")
    search_summary = At("search/summary.json")
    source_ranks = At("search/source_ranks.json")
    """ranks.json of the run whose search this one has taken over (--answer.from)."""
    source_answer = At("search/source_answer.json")
    """answer.json of that run."""
    answer = At("search/answer.json")
    ranks = At("ranks.json")
    lora_config = At("lora_config")
    """PEFT's LoraConfig at the recorded ranks, for other trainers."""
    grid = At("grid.json")
    sweep = At("sweep.json")
    trials = At("trials")
    retrain = At("retrain")
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
    verdict = At("verdict")
    """What --stage verdict trained: the ranks that it compares, and a run for each member of a pair."""
    verdict_summary = At("verdict.json")
    figures = At("figures")
    report = At("report.html")

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """The folder of a configured run."""
        return cls(Path(from_home(config.runs_folder)) / str(config.name))

    def at(self, root: Path) -> Self:
        """The same folder at another place."""
        return type(self)(root)

    @property
    def begun(self) -> bool:
        """Whether a stage has begun to train here: config.yaml is written just before."""
        return self.config.exists()

    def clear_leftovers(self) -> None:
        """Removes the checkpoints of finished stages, which a stage leaves if it is killed after its last file."""
        if self.search_summary.exists():
            remove(self.search_checkpoint)
        if self.metrics.exists():
            remove(self.retrain)
            remove(self.trials)

    def outputs(self, stage: Stage) -> list[Path]:
        """The paths of a stage and of the stages after it, which --overwrite replaces.

        A retraining may also write lora_config/ and ranks.json, which are listed with the search.
        wandb_id is, too, and with a retraining that has begun: wandb would draw a second one as the same curve.
        """
        searched = [self.wandb_id, self.search, self.grid, self.lora_config, self.ranks]
        searched += [self.verdict, self.verdict_summary, self.log]
        retrained = [self.sweep, self.trials, self.retrain, self.adapter, self.merged, self.padded]
        retrained += [
            self.predictions,
            self.predicted_rows,
            self.references,
            self.written,
            self.samples,
            self.row_losses,
        ]
        retrained += [self.retrain_metrics, self.metrics]
        reported = [self.figures, self.report]
        if stage == "report":
            return reported
        if stage == "retrain":
            trained = self.metrics.exists() or self.retrain.exists()
            return [*retrained, *reported, *([self.wandb_id] if trained else [])]
        return searched + retrained + reported
