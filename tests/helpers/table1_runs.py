"""Runs as benchmarks/table1 keeps them, without a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.engine.disk.tables import write_parquet
from benchmarks.table1.runs import COLUMNS
from tests.helpers.finished import write_finished

_METHODS = {"head": "head", "shares": "autolora", "threshold": "autolora", "lora_modules": "lora_modules"}


def _method(line: str) -> str:
    return "lora_shuffled" if line.endswith("shuffled") else _METHODS.get(line.split()[0], "lora")


def runs(
    losses: Mapping[str, Sequence[float]], task: str = "a", ranks: Sequence[int] | None = None, parameters: int = 100
) -> pd.DataFrame:
    """A run for each of a line's losses (line -> its log losses at seeds 0, 1, ...)."""
    same = {
        "task": task, "main_metric": "accuracy", "score": 0.8, "evaluated_rows": 10, "unused_rows": 5,
        "lora_parameters": parameters, "trainable_parameters": 200, "learning_rate": 0.001, "total_seconds": 60.0,
        "commit": "abc", "settings": "", "rows": "",
    }  # fmt: skip
    rows = [
        same | {"seed": seed, "variant": line, "method": _method(line), "log_loss": loss}
        | {"ranks": None if ranks is None else [float(rank) for rank in ranks], "shares": None}
        for seed in range(max(map(len, losses.values())))
        for line, values in losses.items()
        for loss in values[seed : seed + 1]
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def write_study(root: Path, table: pd.DataFrame, **result: Any) -> Path:
    """A study's folder with the results of these runs and their metrics.json."""
    cells = []
    for row in table.itertuples():
        cells.append(f"{row.seed}-{row.variant}")
        write_finished(root, cells[-1], row.method, None, settings={"seed": row.seed, "lora.k": 8}, **result)
    write_parquet(root / "results.parquet", table.drop(columns=["settings", "rows"]).assign(cell=cells))
    return root
