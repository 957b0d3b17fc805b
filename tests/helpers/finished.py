"""What a finished training leaves: the content of metrics.json."""

from typing import Any

RESULT: dict[str, Any] = {
    "method": "lora", "task": "sample", "split": "test", "metrics": {"accuracy": 0.5}, "lora_parameters": 8,
    "trainable_parameters": 8, "learning_rate": 1e-4, "peak_memory_mib": 1.0, "seconds": {"total": 1.0}, "steps": {},
    "seed": 0, "mean_rank": None, "evaluated_rows": 40, "base_weights": None,
}  # fmt: skip
"""The keys that every metrics.json has."""
