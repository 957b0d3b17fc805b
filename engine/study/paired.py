"""Paired tests of a study: the runs of one row against those of another row on the same task and seed."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from autolora.configs.schema import METHODS
from autolora.configs.tasks import ERRORS
from autolora.engine.study.agreement import LAYERS, RANKS
from autolora.engine.study.rows import EVALUATED, LOSS, OUTER, REFERENCE, SCORE, SEED, TASK, UNUSED, labelled, row_keys

OURS, HEAD = "autolora", "head"
LEFT_OUT = "left out, equal ranks"
"""The column with the number of pairs that are left out, as both runs have the same ranks."""
OTHER_ROWS = "left out, other rows"
"""The column with the number of pairs that are left out, as the two runs were evaluated on unequally many rows."""
OF_GAIN = "part of LoRA's gain"
"""The unit of differences that are divided by the gain of their task."""
AT_GIVEN_RANKS = {method for method, kind in METHODS.items() if kind.trains == "lora"}
"""The methods that train LoRA in the same way once they have their ranks."""
# With fewer pairs, the p of the two-sided exact test cannot fall below 0.05.
_LEAST_PAIRS = 6
# Differences are rounded to so many decimals.
_DIGITS = 9


def compared_row(results: pd.DataFrame, axes: Sequence[str]) -> str | None:
    """The row to compare with all others: the one that study.reference names (None while it has no run), or without it
    the first one of method autolora."""
    table, _ = named(results, axes)
    ours = table[REFERENCE] if REFERENCE in table else table["method"] == OURS
    return next(iter(table.loc[ours, "name"]), None)


def named(results: pd.DataFrame, axes: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """`results` with a column `name`, and the names of the columns in which the two runs of a pair agree.

    `name` is the variant, the method, or both, whichever of these axes the study has; without them, all values of the
    row. The columns are task, seed and every other axis.
    """
    keys = row_keys(results, axes)
    by = [key for key in keys if key in ("method", "variant")] or keys
    table = labelled(results, by).rename(columns={"row": "name"})
    return table, [key for key in (TASK, SEED, *(key for key in keys if key not in by)) if key in results]


def pairs_with(
    results: pd.DataFrame, axes: Sequence[str], reference: str
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """For each row of the table its name, its runs, and its pairs; rows without pairs are left out.

    A pair is a run joined with the run of row `reference` at the same task, seed and other axes; the columns of the
    latter end in `_reference`.
    """
    table, keys = named(results, axes)
    base = table[table["name"] == reference]
    for name, group in table.groupby("name", sort=False):
        pairs = group.merge(base, on=keys, suffixes=("", "_reference"))
        if not pairs.empty:
            yield str(name), group, pairs


def paired(results: pd.DataFrame, axes: Sequence[str], ours: str = OURS, column: str = SCORE) -> pd.DataFrame:
    """Row `ours` against each other row on the same task and seed: mean difference with its standard error over the
    pairs, wins, Wilcoxon p.

    Each difference is divided by what row `ours` gains on its task over the runs of method head, the mean over the
    seeds that have both: tasks differ in the size of their losses. The outer objective is divided by the gain in log
    loss, as a head has no search. Tasks on which it gains nothing are left out. Without any gain the differences of a
    single task keep their unit, which stands in the table; those of several tasks have no mean and no p.

    A task and seed is one pair. If it has several runs on further axes, their mean difference counts: an axis that one
    of the rows does not read would otherwise count the same run several times. Runs of two methods that train LoRA at
    ranks that are equal layer by layer say nothing about ranks, and are left out: so are shuffled ranks where the
    shuffle changed none. If this leaves a task and seed without a pair, column LEFT_OUT counts it. Runs that were
    evaluated on unequally many rows are no pair; column OTHER_ROWS counts the tasks and seeds that this leaves out.

    `column`: SCORE, each task's metric, LOSS, the log loss, or OUTER, the outer objective. A positive difference says
    that `ours` is better, also for a loss or an error, of which less is better. p is two-sided, and left out if fewer
    than six pairs differ. If study.reference asked for these comparisons, Holm's method corrects p for their number;
    beside a row that nobody chose, p is of each comparison alone. The table is empty if row `ours` is missing or is
    the only one, or if no run has the value.
    """
    measured = LOSS if column == OUTER else column
    gains = gains_of(results.dropna(subset=[measured]), axes, ours, measured)
    results = results.dropna(subset=[column])
    unit = OF_GAIN if len(gains) else "metric" if column == SCORE else "nats"
    summed = len(gains) > 0 or TASK not in results or results[TASK].nunique() < 2
    rows = []
    for name, _, pairs in pairs_with(results, axes, ours):
        if name == ours:
            continue
        alike = pairs[_same_rows(pairs, column)]
        kept = alike[~_same_run(alike)]
        every, comparable, difference = (_differences(part, column, gains) for part in (pairs, alike, kept))
        error = float(difference.std(ddof=1)) / max(1, len(difference)) ** 0.5
        rows.append(
            {
                f"{ours} against": name,
                "pairs": len(difference),
                LEFT_OUT: len(comparable) - len(difference),
                OTHER_ROWS: len(every) - len(comparable),
                f"mean difference, {unit}": float(difference.mean()) if summed else math.nan,
                "standard error": error if summed else math.nan,
                "better": int((difference > 0).sum()),
                "equal": int((difference == 0).sum()),
                "worse": int((difference < 0).sum()),
                "p": wilcoxon(difference) if summed else math.nan,
                "LoRA parameters, ratio": float(_size_ratios(kept).mean()),
            }
        )
    table = pd.DataFrame(rows)
    table = table.drop(columns=[name for name in (LEFT_OUT, OTHER_ROWS) if rows and not table[name].any()])
    if rows and REFERENCE in results and table["p"].notna().any():
        table.insert(list(table).index("p") + 1, "p, Holm", holm(table["p"]))
    return table


def gains_of(results: pd.DataFrame, axes: Sequence[str], ours: str, column: str) -> pd.Series:
    """Task -> by how much row `ours` is better than method head, the mean over the pairs of the two; only tasks on
    which it is."""
    table, keys = named(results, axes)
    pairs = table[table["method"] == HEAD].merge(table[table["name"] == ours], on=keys, suffixes=("", "_reference"))
    pairs = pairs[_same_rows(pairs, column)]
    gains = _better(pairs, column).groupby(pairs[TASK]).mean()
    return gains[gains > 0]


def one_direction(results: pd.DataFrame) -> bool:
    """Whether more is better, or less is better, for the main metrics of all tasks."""
    return results["main_metric"].isin(ERRORS).nunique() < 2


def _same_rows(pairs: pd.DataFrame, column: str) -> pd.Series:
    """Which pairs are of runs that were evaluated on equally many rows. What the rows are is not compared: two models
    have other tokens for the same texts, and `mixed.refuse_mixed` compares the rows of equal settings."""
    counts = [name for name in (EVALUATED, *([UNUSED] if column == LOSS else [])) if name in pairs]
    equal = pd.Series(True, index=pairs.index)
    for name in counts:
        equal &= pairs[name] == pairs[f"{name}_reference"]
    return equal


def _same_run(pairs: pd.DataFrame) -> pd.Series:
    """Which pairs are of two methods that train alike at the same ranks, and have equal ranks layer by layer.

    Two runs of one method are kept: they differ in a setting, and that it changes no rank is a result."""
    if RANKS not in pairs:
        return pd.Series(False, index=pairs.index)
    alike = pairs["method"].isin(AT_GIVEN_RANKS) & pairs["method_reference"].isin(AT_GIVEN_RANKS)
    columns = [name for name in (LAYERS, RANKS) if name in pairs]
    equal = [
        all(row[name] is not None and np.array_equal(row[name], row[f"{name}_reference"]) for name in columns)
        for _, row in pairs.iterrows()
    ]
    return alike & (pairs["method"] != pairs["method_reference"]) & pd.Series(equal, index=pairs.index, dtype=bool)


def _better(pairs: pd.DataFrame, column: str) -> pd.Series:
    """By how much the reference of each pair is better."""
    lower = pairs["main_metric"].isin(ERRORS) if column == SCORE else True
    better: pd.Series = (pairs[f"{column}_reference"] - pairs[column]) * np.where(lower, -1, 1)
    return better


def _differences(pairs: pd.DataFrame, column: str, gains: pd.Series) -> pd.Series:
    """For each task and seed by how much the reference is better, the mean over its pairs: in parts of the task's
    gain, or without any gains in the unit of the column."""
    better = _better(pairs, column)
    if len(gains):
        better = better / pairs[TASK].map(gains)
    units = [pairs[key] for key in (TASK, SEED) if key in pairs]
    # Rounded, as floats would break ties between metrics that count rows.
    return better.groupby(units).mean().dropna().round(_DIGITS)


def _size_ratios(pairs: pd.DataFrame) -> pd.Series:
    return pairs["lora_parameters_reference"] / pairs["lora_parameters"].replace(0, np.nan)


def holm(p: pd.Series) -> pd.Series:
    """The p of several tests, corrected by Holm's method: the chance that any test errs stays below the level. Unknown
    p stay unknown and do not count as tests."""
    known = p.dropna().sort_values()
    factors = np.arange(len(known), 0, -1)
    corrected = pd.Series(np.maximum.accumulate(known.to_numpy() * factors).clip(max=1.0), index=known.index)
    return corrected.reindex(p.index)


def wilcoxon(difference: pd.Series) -> float:
    """Two-sided p of the signed-rank test; NaN where too few pairs differ for it to say anything."""
    if (difference != 0).sum() < _LEAST_PAIRS:
        return float("nan")
    return float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)
