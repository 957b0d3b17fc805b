"""What a finished training leaves: the content of metrics.json, and the folder of a study's cell."""

from pathlib import Path
from typing import Any

import pandas as pd

from autolora.engine.disk.files import write_json
from autolora.engine.disk.tables import write_parquet

RESULT: dict[str, Any] = {
    "method": "lora", "task": "sample", "split": "test", "metrics": {"accuracy": 0.5}, "lora_parameters": 8,
    "trainable_parameters": 8, "learning_rate": 1e-4, "peak_memory_mib": 1.0, "seconds": {"total": 1.0}, "steps": {},
    "seed": 0, "mean_rank": None, "evaluated_rows": 40, "base_weights": None,
}  # fmt: skip
"""The keys that every metrics.json has."""


def write_finished(root: Path, name: str, method: str, loss: float | None, **result: Any) -> Path:
    """The folder of a cell with metrics.json and the losses of two rows, whose mean per label is `loss` (None: without
    the losses)."""
    folder = root / "cells" / name
    write_json(folder / "metrics.json", RESULT | {"method": method} | result)
    if loss is not None:
        rows = {"split": ["validation", "unused"], "row": [0, 0], "source": [0, 1]}
        write_parquet(
            folder / "row_losses.parquet", pd.DataFrame(rows | {"loss": [0.0, 4 * loss], "weight": [1.0, 3.0]})
        )
    return folder
