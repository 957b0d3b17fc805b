"""Send a study's tables and figures to the tracker, as a run of its own in the group of its cells' runs."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from autolora.configs.schema import RunConfig
from autolora.engine.study.comparison import read_comparison
from autolora.engine.study.folder import StudyFolder
from autolora.engine.tracking import open_tracker


def track_study(config: RunConfig, folder: StudyFolder, pictures: Mapping[str, Path]) -> None:
    """Sends the tables and figures of a finished study; with a comparison of hypergradients also its two tables."""
    grouped = config.tracking.model_copy(update={"group": config.tracking.group or config.name})
    config = config.model_copy(update={"tracking": grouped})
    with open_tracker(config, folder.root, job="study", tags=["study"]) as tracker:
        for key, table in _tables(folder).items():
            # A cell of a wandb table may hold a number, a text or null, but no list.
            rows = json.loads(table.to_json(orient="values", double_precision=15))
            cells = [[str(value) if isinstance(value, list) else value for value in row] for row in rows]
            tracker.table(f"study/{key}", list(table.columns), cells)
        for name, picture in pictures.items():
            tracker.image(f"figures/{name}", picture)
        tracker.keep(f"{config.name}-results", "study", folder.results)


def _tables(folder: StudyFolder) -> dict[str, pd.DataFrame]:
    """The tables to send, by their names in wandb."""
    # The report has just written the first two, and read the comparison.
    tables = {"summary": pd.read_parquet(folder.summary), "results": pd.read_parquet(folder.results)}
    comparison = read_comparison(folder)
    return tables | ({"probe": comparison.probe, "cost": comparison.cost} if comparison else {})
