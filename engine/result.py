"""metrics.json: what a run gave, what it cost, and on what its numbers depend."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, write_json, write_text
from autolora.engine.export.card import card_of
from autolora.engine.inputs import Inputs
from autolora.engine.retrain.evaluate import Evaluated, evaluate
from autolora.engine.retrain.saved import saved_model
from autolora.engine.run.program import commit
from autolora.engine.run.resources import computed_on, versions
from autolora.engine.store.folder import RunFolder
from autolora.engine.world import World
from autolora.problems.models.base import BaseOnDisk


@dataclass(frozen=True)
class RunResult:
    """An evaluation, the content of metrics.json, and the model card, if there is an adapter."""

    evaluated: Evaluated
    content: Mapping[str, Any]
    card: str | None

    def save(self, root: Path) -> None:
        """Writes what was predicted, adapter/README.md and, last, metrics.json."""
        self.evaluated.save(root)
        if self.card is not None:
            # never into the file itself: an old result may share it
            write_text(root / "adapter" / "README.md", self.card)
        write_json(root / "metrics.json", self.content)


def evaluate_run(
    config: RunConfig, folder: RunFolder, inputs: Inputs, base: BaseOnDisk, world: World
) -> RunResult:
    """Evaluates the finished training of a run as it was written."""
    model = saved_model(base, folder.root, read_json(folder.trained)).to(world.compute.device)
    batch = config.evaluation_batch
    evaluated = evaluate(model, inputs.rows, inputs.scoring, inputs.tokenizer, world, batch=batch)
    metrics = evaluated.metrics
    world.tracker.log({f"eval/{name}": value for name, value in metrics.items()})
    content = result_of(config, folder, inputs, evaluated, base, world)
    card = None
    if config.has_lora:
        card = card_of(config, inputs, base.dtype, content, ranks.load(folder.ranks))
    return RunResult(evaluated, content, card)


def result_of(
    config: RunConfig,
    folder: RunFolder,
    inputs: Inputs,
    evaluated: Evaluated,
    base: BaseOnDisk,
    world: World,
) -> dict[str, Any]:
    """The content of metrics.json."""
    metrics = evaluated.metrics
    weights = "bf16" if base.dtype == torch.bfloat16 else "fp32"
    machine = computed_on(world.compute, world.processes.size)
    return {
        "method": config.method,
        "task": config.task.result_name,
        "split": "+".join(inputs.rows.evaluation),
        "evaluated_rows": sum(map(len, inputs.rows.evaluation.values())),
        "metrics": {name: value for name, value in metrics.items() if name != "loss"},
        "standard_error": evaluated.standard_error,
        "loss": metrics.get("loss"),
        "log_loss": evaluated.judgement.log_loss,
        "seconds_evaluation": evaluated.seconds,
        **_costs(config, folder),
        "machine": machine | {"weights": "4 bits" if config.model.dtype == "nf4" else weights},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "base_weights": base.digest,
        "data": inputs.facts,
    }


def _costs(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Size, time and memory of the stages. `seconds.total`: of one run at the chosen rate, without
    the sweep of learning rates."""
    trained = read_json(folder.trained)
    searched: Mapping[str, Any] = {}
    measured: Mapping[str, Any] = {}
    if config.searches == "gradients":
        searched = read_json(folder.search_summary)
        measured = read_json(folder.measured)
    elif config.searches == "trials":
        trials = read_json(folder.grid_trials).get("trials", [])
        searched = {key: sum(trial[key] for trial in trials) for key in ("seconds", "steps")}
    swept = read_json(folder.sweep_trials).get("trials", [])
    seconds = {
        "search": searched.get("seconds", trained["seconds_of_ranks"]),
        "measure": measured.get("seconds"),
        "retrain": trained["seconds"],
    }
    peaks = trained["peak_memory_mib"], searched.get("peak_memory_mib", 0.0)
    return {
        "lora_parameters": trained["lora_parameters"],
        "mean_rank": trained["mean_rank"],
        "learning_rates_tried": [trial["tried"]["learning_rate"] for trial in swept],
        "seconds_sweep": sum(trial["seconds"] for trial in swept),
        "seed": config.seed,
        "seconds": seconds | {"total": sum(filter(None, seconds.values()))},
        "steps": {"search": searched.get("steps"), "retrain": trained["steps"]},
        "peak_memory_mib": max(peaks),
        "trainable_parameters": trained["trainable_parameters"],
        "label_scale": trained["label_scale"],
        "learning_rate": trained["learning_rate"],
    }
