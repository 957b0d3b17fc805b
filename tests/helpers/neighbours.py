"""Runs beside another in one folder: what their metrics.json and ranks.json hold."""

import json
from pathlib import Path
from typing import Any

from autolora.engine import ranks
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from tests.helpers.finished import RESULT

SETTINGS: dict[str, Any] = {
    "method": "autolora", "seed": 0, "model.name": "m", "lora.k": 8, "lora.r": 4, "lora.ranks_from": None,
    "search.steps": 10, "hypergradient.type": "darts", "answer.rule": "threshold", "retrain.init": "scratch",
    "retrain.learning_rate": 0.1,
}  # fmt: skip
RECORD = RankRecord(8, (LayerRank("0.query", 3), LayerRank("0.value", 1), LayerRank("1.query", 4)))


def result_of(method: str = "autolora", score: float = 0.5, **settings: Any) -> dict[str, Any]:
    """A metrics.json; the settings are those of the run but for what is given, with `__` for a dot."""
    given = {key.replace("__", "."): value for key, value in settings.items()}
    return RESULT | {
        "method": method, "metrics": {"f1": score, "precision": 0.1}, "loss": 0.7, "calibrated_loss": 0.6,
        "lora_parameters": 800, "settings": SETTINGS | {"method": method} | given,
    }  # fmt: skip


def put(root: Path, name: str, result: dict[str, Any], found: list[int] | None = None) -> RunFolder:
    """A neighbour with these ranks."""
    folder = RunFolder(root / name)
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.metrics.write_text(json.dumps(result))
    if found is not None:
        layers = tuple(LayerRank(x.name, rank) for x, rank in zip(RECORD.layers, found, strict=True))
        ranks.save(RankRecord(8, layers), folder.ranks)
    return folder
