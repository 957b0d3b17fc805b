"""What a finished training leaves, and the cells of a study that have it."""

import json
from typing import Any

from autolora.configs.schema import RunConfig
from autolora.configs.study import StudyConfig
from autolora.engine.study.cells import Cell

RESULT: dict[str, Any] = {
    "method": "lora",
    "task": "sample",
    "split": "test",
    "metrics": {"accuracy": 0.5},
    "lora_parameters": 8,
    "trainable_parameters": 8,
    "learning_rate": 1e-4,
    "peak_memory_mib": 1.0,
    "seconds": {"total": 1.0},
    "steps": {},
    "seed": 0,
    "mean_rank": None,
    "evaluated_rows": 40,
    "base_weights": None,
    "log_loss": None,
}
"""The keys that every metrics.json has."""


def with_study(config: RunConfig, axes: dict, **more: Any) -> RunConfig:
    return config.model_copy(update={"study": StudyConfig(axes=axes, **more)})


def finish(cell: Cell, score: float, **more: Any) -> None:
    """Writes the metrics.json of a finished run; its metrics are those of the task in `more`."""
    of_task = {"cola": {"matthews": score}, "stsb": {"spearman": score, "pearson": score}}
    metrics = of_task.get(more.get("task", ""), {"f1": score})
    result = (
        RESULT | {"method": cell.config.method, "metrics": metrics, "seed": cell.config.seed} | more
    )
    cell.folder.root.mkdir(parents=True)
    cell.folder.metrics.write_text(json.dumps(result))
