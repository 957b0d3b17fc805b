"""A study in the forms of the paper's tables: metric by task (1, 4), paired tests, cost over AdaLoRA's (5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from engine.study.words import word
from problems.tasks.base import ERRORS

SEED, TASK = "seed", "task"
OURS, COST_REFERENCE = "autolora", "adalora"
# With fewer pairs the two-sided exact test cannot fall below 0.05.
_LEAST_PAIRS = 6


def row_keys(results: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The axes that make the rows of a table: all but seed and task."""
    return [axis for axis in axes if axis not in (SEED, "task.name") and axis in results]


def labelled(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """`results` with a column `row`: the values on the axes that make the rows."""
    keys = row_keys(results, axes)
    places = results[keys].itertuples(index=False, name=None)
    return results.assign(row=[", ".join(map(word, place)) for place in places] if keys else "all")


def beside(results: pd.DataFrame, axes: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """`results` with a column `name`, the method or variant where the study has that axis, and the keys of a pair:
    task, seed and every other axis."""
    keys = row_keys(results, axes)
    by = next((axis for axis in ("variant", "method") if axis in keys), None)
    if by is None:
        return labelled(results, axes).rename(columns={"row": "name"}), [k for k in (TASK, SEED) if k in results]
    others = [key for key in keys if key != by]
    return results.assign(name=results[by]), [k for k in (TASK, SEED, *others) if k in results]


def by_task(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Tables 1 and 4: a row per method or variant, a column per task with median and range over seeds, and their mean.

    Each task's metric is the one it names first, as a fraction.
    """
    table = labelled(results, axes)
    count = table[TASK].nunique()
    rows = []
    for name, group in table.groupby("row", sort=False):
        tasks = list(group.groupby(TASK, sort=False))
        medians = {task: cells["score"].median() for task, cells in tasks}
        row: dict[str, object] = {"": name}
        row |= {f"{task} ({cells['main_metric'].iloc[0]})": _spread(cells["score"]) for task, cells in tasks}
        # A mean over other tasks than its neighbours' would only look like one.
        row["mean"] = float(np.mean(list(medians.values()))) if len(medians) == count else float("nan")
        row["LoRA parameters"] = int(group["lora_parameters"].median())
        row["trainable parameters"] = int(group["trainable_parameters"].median())
        row["runs"] = len(group)
        rows.append(row)
    return pd.DataFrame(rows)


def searched_rows(results: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The rows to hold against all others: autolora, and beside other methods every row whose ranks a search found."""
    table, _ = beside(results, axes)
    names = list(dict.fromkeys(table.loc[table["method"] == OURS, "name"]))
    return names if (table["method"] != OURS).any() else [name for name in names if name == OURS]


def paired(results: pd.DataFrame, axes: Sequence[str], ours: str = OURS) -> pd.DataFrame:
    """Row `ours` against each other row on the same task and seed: mean difference, wins, Wilcoxon p.

    A positive difference is a better result also where less is better. p is two-sided, not corrected for the number of
    rows compared, and left out below six pairs. Empty when `ours` is not there or alone.
    """
    table, keys = beside(results, axes)
    own = table[table["name"] == ours]
    rows = []
    for name, others in table[table["name"] != ours].groupby("name", sort=False):
        pairs = own.merge(others, on=keys, suffixes=("", "_other"))
        if pairs.empty:
            continue
        difference = (pairs["score"] - pairs["score_other"]) * np.where(pairs["main_metric"].isin(ERRORS), -1, 1)
        sizes = pairs["lora_parameters"] / pairs["lora_parameters_other"].replace(0, np.nan)
        rows.append(
            {
                f"{ours} against": name,
                "pairs": len(pairs),
                "mean difference": float(difference.mean()),
                "better": int((difference > 0).sum()),
                "equal": int((difference == 0).sum()),
                "worse": int((difference < 0).sum()),
                "p": _wilcoxon(difference),
                "LoRA parameters, ratio": float(sizes.mean()),
            }
        )
    return pd.DataFrame(rows)


def cost(results: pd.DataFrame, axes: Sequence[str], reference: str = COST_REFERENCE) -> pd.DataFrame:
    """Table 5: total training seconds (search and retraining) over those of row `reference`, same task and seed.

    Medians over the pairs. Empty when `reference` is not there or alone.
    """
    table, keys = beside(results, axes)
    base = table[table["name"] == reference]
    rows = []
    for name, group in table.groupby("name", sort=False):
        pairs = group.merge(base, on=keys, suffixes=("", "_reference"))
        if pairs.empty:
            continue
        ratio = pairs["total_seconds"] / pairs["total_seconds_reference"]
        rows.append(
            {
                "": name,
                f"total time / {reference}'s": float(ratio.median()),
                "range": f"{ratio.min():.2f} to {ratio.max():.2f}",
                "total s": float(group["total_seconds"].median()),
                "of it search s": float(group["search_seconds"].astype(float).median()),
            }
        )
    return pd.DataFrame(rows) if len(rows) > 1 else pd.DataFrame()


def _spread(values: pd.Series) -> str:
    """Median, and the range where there are several."""
    if len(values) == 1:
        return f"{values.iloc[0]:.3f}"
    return f"{values.median():.3f} ({values.min():.3f} to {values.max():.3f})"


def _wilcoxon(difference: pd.Series) -> float:
    """Two-sided p of the signed-rank test; NaN where too few pairs differ for it to say anything."""
    if (difference != 0).sum() < _LEAST_PAIRS:
        return float("nan")
    return float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)
