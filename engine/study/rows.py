"""The runs of a study: each is a row of results.parquet, and the study's tables and charts group these rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autolora.engine.disk.tables import read_parquet
from autolora.engine.study.values import label

SEED, TASK, APPROXIMATION = "seed", "task", "hypergradient.type"
SCORE, LOSS = "score", "log_loss"
"""The columns with each task's first metric, and with the log loss at a fitted temperature, nats a label (null: it was
not measured). The loss is that of the evaluation rows; of a cell with retrain.row_losses, of its unused training rows
too."""

EVALUATED, UNUSED = "evaluated_rows", "unused_rows"
"""The columns with the number of rows of the evaluation split, and of unused training rows on which the loss is
measured, too."""

COMMIT = "commit"
"""The column with the commit of this program at which the run was made (null: not known)."""

SEARCHED_BY, OPTIONS = "searched_by", "options"
"""The columns with hypergradient.type and hypergradient.options of the search that gave the run its ranks (null: the
run had no search, or copied one, and hypergradient.type is no axis of the study)."""

ETA = "eta"
"""The column with hypergradient.eta of that search; null as above, and for a type that reads no eta."""

OUTER = "outer_loss"
"""The column with the outer objective, L_val: the loss on D_val of the searched model, before any rank was chosen, at
a fitted temperature, nats a label (null: it was not measured, or the cell copied another cell's search)."""

FORWARD_PASSES = "search_forward_passes"
"""The column with the forward passes of the run's own search (null: it had none, or copied one)."""

REFERENCE = "is_reference"
"""The column that says whether the run is of the row that study.reference names. The tables and pictures are given it
where the study has such a reference; results.parquet does not hold it."""

_PLAIN = ("variant", "method", APPROXIMATION, "answer.rule", "model.name")
"""Axes whose values are understood without the name of the axis."""
_TEXTS = (TASK, "method", "main_metric", "cell")
_NUMBERS = (SCORE, LOSS, "lora_parameters", "trainable_parameters", "total_seconds")


def read_results(path: Path) -> pd.DataFrame:
    """results.parquet. Raises UserError that names the file when it is damaged."""
    return read_parquet(
        path, "the study's command with --stage report writes it again", texts=_TEXTS, numbers=_NUMBERS
    )


def row_keys(results: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The axes that make the rows of a table: all but seed and task. The paths of a task are no rows either, if each
    is a task of its own."""
    tasks = ["task.glue", "task.benchmark", "task.name"]
    if "task.path" in results and results.groupby(TASK)["task.path"].nunique(dropna=False).max() == 1:
        tasks.append("task.path")
    return [axis for axis in axes if axis not in (SEED, *tasks) and axis in results]


def labelled(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """`results` with a column `row`: the values on the axes that make the rows."""
    keys = row_keys(results, axes)
    places = results[keys].itertuples(index=False, name=None)
    etas = _etas(results, keys)
    names = [
        ", ".join(
            _named(key, value) + (eta if key == APPROXIMATION else "") for key, value in zip(keys, place, strict=True)
        )
        for place, eta in zip(places, etas, strict=True)
    ]
    return results.assign(row=names if keys else "all")


def _etas(results: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """What stands behind each row's hypergradient.type: its eta, if the study's types do not all have the same (by
    an axis) and eta is no axis of its own; else nothing."""
    if ETA not in results or "hypergradient.eta" in keys or results[ETA].nunique() < 2:
        return [""] * len(results)
    return ["" if pd.isna(eta) else f" (eta {eta})" for eta in results[ETA]]


def _named(key: str, value: Any) -> str:
    """The value of an axis in words, after the name of its key if the value does not speak for itself."""
    return label(value) if key in _PLAIN else f"{key.rpartition('.')[2]} {label(value)}"


@dataclass(frozen=True)
class Panel:
    """What one chart of a study's metric shows: the runs of a task that have a score, and for each row of the table
    the median of its runs."""

    metric: str
    label: str
    runs: pd.DataFrame
    medians: pd.Series


def panels(results: pd.DataFrame, axes: Sequence[str]) -> list[Panel]:
    """One panel for each task."""
    made = []
    for task, cells in labelled(results, axes).groupby(TASK, sort=False):
        metric, runs = str(cells["main_metric"].iloc[0]), cells.dropna(subset=["score"])
        medians = runs.groupby("row", sort=False)["score"].median()
        made.append(Panel(metric, f"{metric}, {task}", runs, medians))
    return made


def texts(table: pd.DataFrame) -> list[list[str]]:
    """The cells of a table as text, row by row."""
    # to_numpy() would turn whole numbers into floats if another column holds floats.
    return [[_text(value) for value in row] for row in table.itertuples(index=False, name=None)]


def _text(value: Any) -> str:
    """Floats with three decimals, small ones with two digits; a missing number is an empty text."""
    if isinstance(value, float | np.floating):
        number = float(value)
        return "" if np.isnan(number) else f"{number:z.3f}" if number == 0 or abs(number) >= 0.01 else f"{number:.2g}"
    return f"{int(value):,}" if isinstance(value, int | np.integer) else str(value)


def spread(values: pd.Series, middle: str = "median", digits: int = 3) -> str:
    """`0.801 (0.800 to 0.802)`: the median or mean of the numbers, and their range if there are several."""
    known = values.dropna()
    text = f"{known.agg(middle):.{digits}f}" if len(known) else ""
    return f"{text} ({span(known, digits)})" if len(known) > 1 else text


def span(values: pd.Series, digits: int = 3) -> str:
    """`0.800 to 0.802`: the least and the greatest number; an empty text if none is known."""
    return f"{values.min():.{digits}f} to {values.max():.{digits}f}" if values.notna().any() else ""


def shortened(name: str, most: int = 40) -> str:
    """A row's name for an axis or a legend: the middle of a long one is left out, as names differ at both ends."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
