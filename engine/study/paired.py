"""The paired test of a study: the runs of one row against those of every other row on the same task and seed."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from autolora.configs.schema import METHODS
from autolora.configs.tasks import ERRORS
from autolora.engine.study.rows import LAYERS, LOSS, OUTER, RANKS, REFERENCE, SCORE, SEED, TASK

OURS, HEAD = "autolora", "head"
LEFT_OUT = "left out, equal ranks"
"""The column with the number of pairs that are left out, as both runs have the same ranks."""
OF_GAIN = "part of LoRA's gain"
"""The unit of differences that are divided by the gain of their task."""
AT_GIVEN_RANKS = {method for method, kind in METHODS.items() if kind.trains == "lora"}
"""The methods that train LoRA in the same way once they have their ranks."""
# With fewer pairs, the p of the two-sided exact test cannot fall below 0.05.
_LEAST_PAIRS = 6
# Differences are rounded to so many decimals, as floats would break ties between metrics that count rows.
_DIGITS = 9


def compared_row(results: pd.DataFrame) -> str | None:
    """The row to compare with all others: the one that study.reference names (None while it has no run), or without it
    the first one of method autolora."""
    ours = results[REFERENCE] if REFERENCE in results else results["method"] == OURS
    return next(iter(results.loc[ours, "row"]), None)


def paired(results: pd.DataFrame, ours: str = OURS, column: str = SCORE) -> pd.DataFrame:
    """Row `ours` against each other row on the same task and seed: mean difference with its standard error over the
    pairs, wins, Wilcoxon p.

    Each difference is divided by what row `ours` gains on its task over the runs of method head, the mean over the
    seeds that have both: tasks differ in the size of their losses. The outer objective is divided by the gain in log
    loss, as a head has no search. Tasks on which it gains nothing are left out. Without any gain the differences of a
    single task keep their unit, which stands in the table; those of several tasks have no mean and no p.

    Runs of two methods that train LoRA at ranks that are equal layer by layer say nothing about ranks: LEFT_OUT counts
    the pairs that are left out for this. A positive difference says that `ours` is better, also for a loss or an
    error, of which less is better. p is two-sided, and left out if fewer than six pairs differ. If study.reference
    asked for these comparisons, Holm's method corrects p for their number. The table is empty if row `ours` is missing
    or the only one.
    """
    gains = gains_of(results, ours, LOSS if column == OUTER else column)
    known = results.dropna(subset=[column])
    unit = OF_GAIN if len(gains) else "metric" if column == SCORE else "nats"
    summed = len(gains) > 0 or known[TASK].nunique() < 2
    rows = []
    for name in known["row"].unique():
        pairs = _pairs(known, name, ours)
        if name == ours or pairs.empty:
            continue
        same = _same_run(pairs)
        difference = _better(pairs[~same], column)
        if len(gains):
            difference = difference / pairs[TASK].map(gains)
        difference = difference.dropna().round(_DIGITS)
        ratio = pairs["lora_parameters_ours"] / pairs["lora_parameters"].replace(0, np.nan)
        rows.append(
            {
                f"{ours} against": name,
                "pairs": len(difference),
                LEFT_OUT: int(same.sum()),
                f"mean difference, {unit}": difference.mean() if summed else math.nan,
                "standard error": difference.sem() if summed else math.nan,
                "better": int((difference > 0).sum()),
                "equal": int((difference == 0).sum()),
                "worse": int((difference < 0).sum()),
                "p": wilcoxon(difference) if summed else math.nan,
                "LoRA parameters, ratio": ratio[~same].mean(),
            }
        )
    table = pd.DataFrame(rows)
    if rows and not table[LEFT_OUT].any():
        table = table.drop(columns=LEFT_OUT)
    if rows and REFERENCE in results and table["p"].notna().any():
        table.insert(list(table).index("p") + 1, "p, Holm", holm(table["p"]))
    return table


def gains_of(results: pd.DataFrame, ours: str, column: str) -> pd.Series:
    """Task -> by how much row `ours` is better than method head, the mean over the seeds that have both; only tasks on
    which it is."""
    known = results.dropna(subset=[column])
    heads = known.assign(row=known["row"].where(~nearest(known, HEAD, ours), HEAD))
    pairs = _pairs(heads, HEAD, ours)
    gains = _better(pairs, column).groupby(pairs[TASK]).mean()
    return gains[gains > 0]


def nearest(results: pd.DataFrame, method: str, row: str) -> pd.Series:
    """Which runs are of this method, and of those whose row differs from `row` on the fewest axes."""
    axes, known = set(row.split(", ")), results["method"] == method
    differ = results["row"].map(lambda name: len(set(str(name).split(", ")) ^ axes)).where(known)
    found: pd.Series = differ == differ.min()
    return found


def _pairs(results: pd.DataFrame, row: str, ours: str) -> pd.DataFrame:
    """The runs of a row, each beside the run of row `ours` on its task and seed, whose columns end in `_ours`."""
    one, other = (results[results["row"] == name] for name in (row, ours))
    return one.merge(other, on=[TASK, SEED], suffixes=("", "_ours"))


def _same_run(pairs: pd.DataFrame) -> pd.Series:
    """Which pairs are of two methods that train alike at the same ranks, and have equal ranks layer by layer. Two runs
    of one method are kept: they differ in a setting, and that it changes no rank is a result."""
    alike = pairs["method"].isin(AT_GIVEN_RANKS) & pairs["method_ours"].isin(AT_GIVEN_RANKS)
    equal = [
        all(one is not None and np.array_equal(one, other) for one, other in zip(run[:2], run[2:], strict=True))
        for run in zip(*(pairs[name] for name in (LAYERS, RANKS, f"{LAYERS}_ours", f"{RANKS}_ours")), strict=True)
    ]
    return alike & (pairs["method"] != pairs["method_ours"]) & pd.Series(equal, index=pairs.index, dtype=bool)


def _better(pairs: pd.DataFrame, column: str) -> pd.Series:
    """By how much row `ours` is better in each pair."""
    lower = pairs["main_metric"].isin(ERRORS) if column == SCORE else True
    better: pd.Series = (pairs[f"{column}_ours"] - pairs[column]) * np.where(lower, -1, 1)
    return better


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
        return math.nan
    return float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)
