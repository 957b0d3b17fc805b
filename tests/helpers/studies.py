"""Studies of the tests: two axes, three variants."""

import json
from typing import Any

import pytest

from autolora.configs.schema import RunConfig
from autolora.configs.study import ProbeConfig, StudyConfig
from autolora.engine.study.cells import Cell
from autolora.engine.study.launchers.base import Job
from tests.helpers.finished import RESULT

AXES = {"hypergradient.type": ["first_order", "exact"], "seed": [0, 1]}
VARIANTS = {
    "autolora": {},
    "by size": {"answer.rule": "size", "answer.budget": 2},
    "shuffled": {"method": "lora_shuffled", "lora.ranks_from": "{runs}/seed-{seed}_variant-autolora/ranks.json"},
}


def with_study(config: RunConfig, axes: dict, probe: ProbeConfig | None = None) -> RunConfig:
    return config.model_copy(update={"study": StudyConfig(axes=axes, probe=probe)})


def job(name: str, *after: str) -> Job:
    """A job that is never begun."""
    return Job(name, lambda: pytest.fail("begun"), frozenset(after))


def finish(cell: Cell, score: float, **more: Any) -> None:
    """Writes the metrics.json of a finished run; its metrics are those of the task in `more`."""
    of_task = {"cola": {"matthews": score}, "stsb": {"spearman": score, "pearson": score}}
    metrics = of_task.get(more.get("task", ""), {"f1": score})
    result = RESULT | {"method": cell.config.method, "metrics": metrics} | more
    folder = cell.folder
    folder.root.mkdir(parents=True)
    folder.metrics.write_text(json.dumps(result))
