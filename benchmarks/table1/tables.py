"""The tables of `python -m benchmarks.table1`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.table import Table

from autolora.engine.study.agreement import RANKS, SHARES, between_seeds, by_chance
from autolora.engine.study.rows import LOSS, SCORE, SEED, TASK
from benchmarks.command import table_of, with_error
from benchmarks.table1.contrasts import Contrast
from benchmarks.table1.runs import VARIANT


def of_losses(table: pd.DataFrame) -> Table:
    """A row for each line, sorted by its LoRA parameters: mean +- standard error of the log loss and mean metric on
    each task, mean size, mean seconds."""
    tasks = list(table[TASK].unique())
    title = "log loss, nats a label: mean +- standard error over the seeds; mean metric"
    of_tasks = [part for task in tasks for part in (task, _metric(table, task))]
    shown = table_of(title, "line", "LoRA parameters", *of_tasks, "seconds")
    sizes = table.groupby(VARIANT, sort=False)["lora_parameters"].mean().sort_values(kind="stable")
    for line, size in sizes.items():
        rows = table[table[VARIANT] == line]
        cells = []
        for task in tasks:
            of_task = rows[rows[TASK] == task]
            cells += [_loss(of_task[LOSS], table.loc[table[TASK] == task, SEED].nunique()), _mean(of_task[SCORE], 3)]
        shown.add_row(str(line), f"{size:,.0f}", *cells, _mean(rows["total_seconds"], 0))
    return shown


def _metric(table: pd.DataFrame, task: str) -> str:
    names = table.loc[(table[TASK] == task) & (table["main_metric"] != ""), "main_metric"]
    return str(names.iloc[0]) if len(names) else "metric"


def _loss(losses: pd.Series, seeds: int) -> str:
    """Mean +- standard error; beside it the number of runs where it is not that of all the task's seeds."""
    if losses.empty:
        return "-"
    fewer = f" ({len(losses)})" if len(losses) < seeds else ""
    return f"{with_error(losses.to_numpy())}{fewer}"


def _mean(values: pd.Series, digits: int) -> str:
    known = values.dropna()
    return f"{known.mean():.{digits}f}" if len(known) else "-"


def of_contrasts(found: Sequence[Contrast], title: str) -> Table:
    """A row for each contrast: its difference at each seed, how often the line is better, its mean in gains, its p."""
    tasks = list(dict.fromkeys(task for one in found for task in one.differences))
    notes = (
        "Differences of log loss, nats, a value for each seed; above 0 the line is better. p: Wilcoxon's, two-sided"
    )
    caption = f"{notes}; Holm: corrected for the tests of this table. Two runs that are the same training are no pair."
    shown = table_of(title, "line", *tasks, "better", "mean, of LoRA's gain", "p", "p, Holm", caption=caption)
    for one in found:
        seeds = [" ".join(f"{value:.4f}" for value in one.differences.get(task, ())) or "-" for task in tasks]
        of_all = f"{one.better} of {len(one.in_gains)}"
        mean = f"{with_error(100 * one.in_gains, 1)} %"
        shown.add_row(one.line, *seeds, of_all, mean, _p(one.p), _p(one.corrected))
    return shown


def _p(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2g}"


def of_agreement(table: pd.DataFrame) -> Table | None:
    """How well the ranks, and the measured shares, of two seeds agree; None without two seeds that have any."""
    parts = {
        "": between_seeds(table, [SEED, VARIANT], RANKS),
        "shares of ": between_seeds(table, [SEED, VARIANT], SHARES),
    }
    known = {prefix: part for prefix, part in parts.items() if not part.empty}
    if not known:
        return None
    tasks = list(dict.fromkeys(str(column) for part in known.values() for column in list(part)[1:]))
    title = "Spearman correlation between the layers' ranks of two seeds, mean (range)"
    shown = table_of(title, "line", *tasks, caption=by_chance(table))
    for prefix, part in known.items():
        for _, row in part.iterrows():
            shown.add_row(prefix + row[""], *(row.get(task, "") for task in tasks))
    return shown
