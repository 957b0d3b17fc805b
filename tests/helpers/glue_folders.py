"""Folders of a GLUE task in the hub's layout."""

from pathlib import Path
from typing import Any

import pandas as pd

from autolora.problems.tasks.glue import GLUE


def folder_of(folder: Path, name: str, splits: dict[str, dict[str, list[Any]]]) -> str:
    """Writes `splits` (name -> columns) of task `name`; returns the folder as an option gives it."""
    lines = ["---", "configs:", f"- config_name: {name}", "  data_files:"]
    folder.mkdir(exist_ok=True)
    for split, columns in splits.items():
        lines += [f"  - split: {split}", f"    path: {split}.parquet"]
        pd.DataFrame(columns).to_parquet(folder / f"{split}.parquet")
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


def rows(name: str, label: int, text: str = "some text") -> dict[str, list[Any]]:
    """Two rows of task `name`, labelled 0 and `label`."""
    return {column: [f"{text} {column}"] * 2 for column in GLUE[name][0]} | {"label": [0, label]}
