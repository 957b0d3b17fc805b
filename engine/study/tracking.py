"""A study as a wandb run of its own: its tables and figures beside the runs of its cells, in one group."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.schema import RunConfig
from engine.study.folder import StudyFolder
from engine.tracking.wandb_run import Wandb


def track_study(config: RunConfig, folder: StudyFolder, pictures: Mapping[str, Path]) -> None:
    """Sends the tables and figures of a finished study."""
    grouped = dataclasses.replace(config.tracking, group=config.tracking.group or config.name)
    config = dataclasses.replace(config, tracking=grouped)
    with Wandb(config, folder.root, job="study", tags=["study"]) as wandb:
        for key, path in (("summary", folder.summary), ("results", folder.results)):
            table = pd.read_parquet(path)
            rows = [[_plain(value) for value in row] for row in table.itertuples(index=False, name=None)]
            wandb.table(f"study/{key}", [str(column) for column in table.columns], rows)
        for name, picture in pictures.items():
            wandb.image(f"figures/{name}", picture)
        wandb.keep(f"{config.name}-results", "study", folder.results)


def _plain(value: Any) -> Any:
    """A number, a word or nothing: what a cell of a wandb table may hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()  # an array's own text leaves out the middle of a long one
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
