"""Send a study's tables and figures to wandb, as a run of its own in the group of its cells' runs."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from autolora.configs.schema import RunConfig
from autolora.engine.study.folder import StudyFolder
from autolora.engine.tracking.wandb_run import Wandb


def track_study(config: RunConfig, folder: StudyFolder, pictures: Mapping[str, Path]) -> None:
    """Sends the tables and figures of a finished study; with a comparison of hypergradients also its two tables."""
    grouped = config.tracking.model_copy(update={"group": config.tracking.group or config.name})
    config = config.model_copy(update={"tracking": grouped})
    with Wandb(config, folder.root, job="study", tags=["study"]) as tracker:
        for path in (folder.summary, folder.results, folder.probe, folder.cost):
            if path.exists():
                # A cell of a wandb table may hold a number, a text or null, but no list.
                rows = json.loads(pd.read_parquet(path).to_json(orient="split", double_precision=15))
                cells = [[str(value) if isinstance(value, list) else value for value in row] for row in rows["data"]]
                tracker.table(f"study/{path.stem}", rows["columns"], cells)
        for name, picture in pictures.items():
            tracker.image(f"figures/{name}", picture)
        tracker.keep(f"{config.name}-results", "study", folder.results)
