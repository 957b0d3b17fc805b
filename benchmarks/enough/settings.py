"""A digest of what decides the loss of a training, so that no table mixes trainings of two kinds."""

from collections.abc import Mapping
from typing import Any

from benchmarks.kept import digest

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
    return ".".join(digest(part) for part in parts[:read])


def _covered(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)
