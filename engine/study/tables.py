"""The tables of a study: a row for each combination of its axes; metric and log loss by task, as the paper's Tables 1
and 4; the cost over AdaLoRA's, as the paper's Table 5."""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from autolora.configs.count_words import counted
from autolora.engine.study.paired import one_direction, pairs_with
from autolora.engine.study.rows import LOSS, OUTER, SCORE, SEED, TASK, labelled, span, spread
from autolora.engine.study.values import label

COST_REFERENCE = "adalora"
DIGITS = 3
"""The decimals of numbers in a table, unless it has its own."""


def summarise(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """A row for each combination of the axes other than the seed: median and range of each metric over the seeds, mean
    rank, size, seconds.

    Metrics of one class ("protein.f1") stay in results.parquet: the table would become too wide to be read.
    """
    keys = [axis for axis in axes if axis != SEED and axis in results] or ["all"]
    metrics = [name for name in map(str, results) if name.startswith("metric.") and name.count(".") == 1]
    rows = []
    for place, group in results.assign(all="all").groupby(keys, sort=False, dropna=False):
        # As text, a small learning rate keeps its digits; as a number, a table would show it as 0.000.
        row: dict[str, object] = {key: label(value) for key, value in zip(keys, place, strict=True)}
        row["runs"] = len(group)
        for column in metrics:  # tasks differ in their metrics, so that a field of the table may be empty
            name = column.removeprefix("metric.")
            row |= {name: group[column].median(), f"{name} range": span(group[column])}
        row |= {"mean rank": group["mean_rank"].mean(), **_sizes(group)}
        row |= {"search s": group["search_seconds"].median(), "total s": group["total_seconds"].median()}
        rows.append(row)
    return pd.DataFrame(rows)


def by_task(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Tables 1 and 4: a row for each method or variant, a column for each task with median and range over the seeds,
    and the mean of the medians.

    Each task's metric is the one it names first, as a fraction. A field that has fewer runs than other rows of its
    task says how many: their median is of other seeds.
    """
    return _by_task(results, axes, SCORE, lambda cells: str(cells["main_metric"].iloc[0]))


def losses_by_task(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The same table for the log loss, in nats a label at a fitted temperature; empty if no run has it.

    A metric counts only which answers are right; the log loss also sees how sure the model is of them, so it tells two
    rows of the table apart with fewer seeds.
    """
    return _nats_by_task(results, axes, LOSS)


def outer_losses_by_task(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The same table, without sizes, for the outer objective: the loss on D_val of the searched models; empty if no
    run has it."""
    searched = results[results[OUTER].notna()] if OUTER in results else results[:0]
    table = _nats_by_task(searched, axes, OUTER)
    return table[[name for name in table if "parameters" not in str(name)]]


def _nats_by_task(results: pd.DataFrame, axes: Sequence[str], column: str) -> pd.DataFrame:
    known = column in results and results[column].notna().any()
    return _by_task(results, axes, column, lambda cells: "nats", digits=4) if known else pd.DataFrame()


def _by_task(
    results: pd.DataFrame, axes: Sequence[str], column: str, unit: Callable[[pd.DataFrame], str], digits: int = DIGITS
) -> pd.DataFrame:
    table = labelled(results, axes)
    titles = {task: f"{task} ({unit(cells)})" for task, cells in table.groupby(TASK, sort=False)}
    most = table.groupby(["row", TASK])[column].count().groupby(TASK).max()
    rows = []
    for name, group in table.groupby("row", sort=False):
        medians = group.groupby(TASK)[column].median()
        row: dict[str, object] = {"": name}
        for task, title in titles.items():
            runs = group.loc[group[TASK] == task, column]
            fewer = f", {counted(runs.count(), 'run')}" if 0 < runs.count() < most[task] else ""
            row[title] = spread(runs, digits=digits) + fewer
        # Means over different tasks cannot be compared, nor is there one of metrics of which more and less is better.
        whole = medians.notna().sum() == len(titles) and (column != SCORE or one_direction(table))
        mean = float(medians.mean()) if whole else float("nan")
        row["mean"] = mean if digits == DIGITS or math.isnan(mean) else f"{mean:.{digits}f}"
        rows.append({**row, **_sizes(group), "runs": len(group)})
    return pd.DataFrame(rows)


def _sizes(group: pd.DataFrame) -> dict[str, int]:
    columns = ("lora_parameters", "LoRA parameters"), ("trainable_parameters", "trainable parameters")
    return {title: int(group[column].median()) for column, title in columns}


def cost(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Table 5: total seconds (search, answer and retraining) over those of row COST_REFERENCE, same task and seed.

    The ratios are medians over the pairs, the seconds medians over all runs of the row. The table is empty if row
    COST_REFERENCE is missing or is the only one.
    """
    rows = []
    for name, group, pairs in pairs_with(results, axes, COST_REFERENCE):
        ratio = pairs["total_seconds"] / pairs["total_seconds_reference"]
        rows.append(
            {
                "": name,
                f"total time / {COST_REFERENCE}'s": float(ratio.median()),
                "range": span(ratio, 2),
                "total s": float(group["total_seconds"].median()),
                "search s": float(group["search_seconds"].astype(float).median()),
            }
        )
    return pd.DataFrame(rows) if len(rows) > 1 else pd.DataFrame()
