"""A digest of what decides the loss of a training, so that no table mixes trainings of two kinds."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from configs.errors import UserError

_DIFFER = {"seed", "method", "lora.r", "device", "task.path", "task.samples", "model.name", "model.revision"}
"""Keys in which the trainings of one table may differ, or that say where rows and weights lie; digests of the rows and
of the weights stand for those."""
_OF_LORA = ("lora", "adapter", "retrain.scale", "retrain.init")
_OF_SEARCH = ("search", "hypergradient", "answer", "task.validation_share", "task.split_by")


def digest_of(result: Mapping[str, Any]) -> str:
    """Of a training of method head, lora or autolora, from its metrics.json: the digests, joined by dots, of what all
    of them read (with their rows and the base model's weights), what trainings of LoRA read, and what a search
    reads. A training has as many of these as its method reads."""
    data = result.get("data") or {}
    parts: list[dict[str, Any]] = [{name: data.get(name) for name in ("training", "evaluation", "unused")}, {}, {}]
    parts[0]["base weights"] = result.get("base_weights")
    for key, value in result["settings"].items():
        if key not in _DIFFER:
            parts[2 if _covered(key, _OF_SEARCH) else 1 if _covered(key, _OF_LORA) else 0][key] = value
    read = {"head": 1, "lora": 2}.get(result["method"], 3)
    return ".".join(_digest(part) for part in parts[:read])


def _covered(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def refuse_mixed(table: pd.DataFrame) -> None:
    """Raises UserError, naming two trainings, if the trainings of a task differ in more than seed, method and rank. An
    empty digest, of a training that was recorded without one, is not compared."""
    for task, rows in table.groupby("task", sort=False):
        known: dict[int, tuple[str, str]] = {}
        for row in rows.itertuples():
            name = f"{row.method}{f' at rank {row.rank}' if row.method == 'lora' else ''}, seed {row.seed}"
            for place, digest in enumerate(filter(None, str(row.settings).split("."))):
                first, of_first = known.setdefault(place, (name, digest))
                if digest != of_first:
                    raise UserError(
                        f"{task}: the trainings {first} and {name} have other settings, rows or base models; allowed: "
                        f"trainings that differ in seed, method and rank alone"
                    )
