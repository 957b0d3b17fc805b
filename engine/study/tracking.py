"""Send a study's tables and figures to the tracker, as a run of its own in the group of its cells' runs."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from configs.schema import RunConfig
from engine.study.folder import StudyFolder
from engine.tracking import open_tracker


def track_study(config: RunConfig, folder: StudyFolder, pictures: Mapping[str, Path]) -> None:
    """Sends the tables and figures of a finished study."""
    grouped = dataclasses.replace(config.tracking, group=config.tracking.group or config.name)
    config = dataclasses.replace(config, tracking=grouped)
    with open_tracker(config, folder.root, job="study", tags=["study"]) as tracker:
        for key, path in (("summary", folder.summary), ("results", folder.results)):
            table = pd.read_parquet(path)  # both have just been written
            # A cell of a wandb table may hold a number, a text or null, but no list.
            rows = json.loads(table.to_json(orient="values", double_precision=15))
            cells = [[str(value) if isinstance(value, list) else value for value in row] for row in rows]
            tracker.table(f"study/{key}", list(table.columns), cells)
        for name, picture in pictures.items():
            tracker.image(f"figures/{name}", picture)
        tracker.keep(f"{config.name}-results", "study", folder.results)
