"""A study's runs in one table: a row per place on its axes, seeds summarised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from engine.study.words import word

SEED, APPROXIMATION = "seed", "hypergradient.type"


def main_metric(results: pd.DataFrame) -> str:
    """Column of the metric that the task names first."""
    return next(column for column in results.columns if column.startswith("metric."))


def summarise(results: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """A row per place on the axes but the seed: median and range of each metric over seeds, ranks, size, seconds.

    Metrics of one class ("protein.f1") stay in results.parquet: the table would become too wide to be read.
    """
    keys = [axis for axis in axes if axis != SEED and axis in results] or ["all"]
    rows = []
    for place, group in results.assign(all="all").groupby(keys, sort=False, dropna=False):
        # As words: three digits behind the point would make 0.000 of a rate.
        places = map(word, place if isinstance(place, tuple) else (place,))
        row: dict[str, Any] = dict(zip(keys, places, strict=True))
        row["runs"] = len(group)
        for column in group.columns:
            name = column.removeprefix("metric.")
            if name != column and "." not in name:
                row[name] = group[column].median()
                known = group[column].notna().any()  # tasks differ in their metrics
                row[f"{name} range"] = f"{group[column].min():.3f} to {group[column].max():.3f}" if known else ""
        row["mean rank"] = group["mean_rank"].mean()
        row["LoRA parameters"] = int(group["lora_parameters"].median())
        row["trainable parameters"] = int(group["trainable_parameters"].median())
        row["search s"] = group["search_seconds"].median()
        row["total s"] = group["total_seconds"].median()
        rows.append(row)
    return pd.DataFrame(rows)


def cell(value: Any) -> str:
    """A table cell: three digits behind the point, thousands set apart, nothing for a missing number."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.3f}"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    return str(value)


def axes_of(results: pd.DataFrame) -> list[str]:
    """The axes in a study's results: what stands before the columns that every result has."""
    columns = list(results.columns)
    return columns[: columns.index("task")]


def rows_of(table: pd.DataFrame) -> list[list[str]]:
    """The table's cells as text."""
    # to_numpy() would make whole numbers beside fractions fractions too.
    return [[cell(value) for value in row] for row in table.itertuples(index=False, name=None)]
