"""The runs of a study: each is a row of results.parquet, and the study's tables and pictures group these rows."""

from dataclasses import dataclass

import pandas as pd

SEED, TASK, APPROXIMATION = "seed", "task", "hypergradient.type"
SCORE, LOSS = "score", "log_loss"
"""The columns with each task's first metric, and with the log loss at a fitted temperature, nats a label (null: it was
not measured). The loss is that of the evaluation rows; of a cell with retrain.row_losses, of its unused training rows
too."""
COMMIT = "commit"
LAYERS, RANKS, SHARES = "layers", "ranks", "shares"
"""The columns with the names of the layers with LoRA, and with the rank and the share of each."""
SEARCHED_BY, OPTIONS, ETA = "searched_by", "options", "eta"
"""The columns with hypergradient.type, options and eta of the run's own search (null: it had none, or copied one)."""
OUTER = "outer_loss"
"""The column with the outer objective, L_val: the loss on D_val of the searched model, before any rank was chosen, at
a fitted temperature, nats a label (null: it was not measured, or the cell copied another cell's search)."""
FORWARD_PASSES = "search_forward_passes"
REFERENCE = "is_reference"
"""The column that says whether the run is of the row that study.reference names. The tables and pictures are given it
where the study has such a reference; results.parquet does not hold it."""


@dataclass(frozen=True)
class Panel:
    """What one chart of a study's metric shows: the runs of a task that have a score, and for each row of the table
    the median of its runs."""

    metric: str
    label: str
    runs: pd.DataFrame
    medians: pd.Series


def panels(results: pd.DataFrame) -> list[Panel]:
    """One panel for each task."""
    made = []
    for task, cells in results.groupby(TASK, sort=False):
        metric, runs = str(cells["main_metric"].iloc[0]), cells.dropna(subset=["score"])
        medians = runs.groupby("row", sort=False)["score"].median()
        made.append(Panel(metric, f"{metric}, {task}", runs, medians))
    return made


def spread(values: pd.Series, middle: str = "median", digits: int = 3) -> str:
    """`0.801 (0.800 to 0.802)`: the median or mean of the numbers, and their range if there are several."""
    known = values.dropna()
    text = f"{known.agg(middle):.{digits}f}" if len(known) else ""
    return f"{text} ({known.min():.{digits}f} to {known.max():.{digits}f})" if len(known) > 1 else text


def shortened(name: str, most: int = 40) -> str:
    """A row's name for an axis or a legend: the middle of a long one is left out, as names differ at both ends."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
