"""Studies of the tests."""

import json
from typing import Any

from autolora.configs.schema import RunConfig
from autolora.configs.study import StudyConfig
from autolora.engine.study.cells import Cell
from tests.helpers.finished import RESULT

AXES = {"hypergradient.type": ["first_order", "exact"], "seed": [0, 1]}


def with_study(config: RunConfig, axes: dict, **more: Any) -> RunConfig:
    return config.model_copy(update={"study": StudyConfig(axes=axes, **more)})


def finish(cell: Cell, score: float, **more: Any) -> None:
    """Writes the metrics.json of a finished run; its metrics are those of the task in `more`."""
    of_task = {"cola": {"matthews": score}, "stsb": {"spearman": score, "pearson": score}}
    metrics = of_task.get(more.get("task", ""), {"f1": score})
    result = RESULT | {"method": cell.config.method, "metrics": metrics, "seed": cell.config.seed} | more
    cell.folder.root.mkdir(parents=True)
    cell.folder.metrics.write_text(json.dumps(result))
