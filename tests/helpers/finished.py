"""Cells of a study as a finished training leaves them, without a training."""

from pathlib import Path
from typing import Any

import pandas as pd

from engine.disk.files import write_json
from engine.disk.tables import write_parquet


def write_finished(root: Path, name: str, method: str, loss: float | None, **result: Any) -> Path:
    """The folder of a cell with metrics.json and the losses of two rows, whose mean per label is `loss` (None: without
    the losses)."""
    folder = root / "cells" / name
    parts: dict[str, Any] = {"seconds": {"total": 1.0}, "steps": {}, "settings": {}, "metrics": {"accuracy": 0.5}}
    write_json(folder / "metrics.json", {"method": method} | parts | result)
    if loss is not None:
        rows = {"split": ["validation", "unused"], "row": [0, 0], "source": [0, 1]}
        write_parquet(
            folder / "row_losses.parquet", pd.DataFrame(rows | {"loss": [0.0, 4 * loss], "weight": [1.0, 3.0]})
        )
    return folder
