"""A user's table in every format, and the task that reads it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.configs.tasks import Table
from autolora.problems.tasks.table import TextTable

TEXTS = ["good, very", 'a "quoted" one', "NA", "zwölf\nlines", "five", "six"]
LABELS = ["b", "a", "b", "a", "b", "a"]


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """Writes `columns` to `path` in the format of its suffix."""
    frame = pd.DataFrame(columns)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records")]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    return path


def task_of(path: Path, **settings: Any) -> TextTable:
    """The task on this table, which is evaluated on the same rows unless told otherwise."""
    settings.setdefault("validation_path", str(path))
    return TextTable(Table(type="text", path=str(path), **settings), seed=0)
