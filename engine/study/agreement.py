"""Whether learned ranks are a property of task and model or of the seed: Spearman correlation of rank maps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from engine.study.summary import APPROXIMATION, SEED
from engine.study.tables import TASK, labelled


def between_seeds(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """A row per method or variant, a column per task: mean (range) of the correlation over all pairs of seeds.

    Over n matrices chance alone gives 0 +- 1 / sqrt(n - 1) for one pair, and the ranks of `lora_shuffled` show it.
    Rows whose ranks are all alike (uniform LoRA) or missing are left out; empty when no place has two seeds.
    """
    rows = []
    for name, group in labelled(results, axes).groupby("row", sort=False):
        row: dict[str, Any] = {"": name}
        for task, cells in group.groupby(TASK, sort=False):
            known = [ranks for ranks in cells["ranks"] if ranks is not None]
            row[str(task)] = _spread([_spearman(a, b) for a, b in itertools.combinations(known, 2)])
        if any(row[column] for column in row if column):
            rows.append(row)
    return pd.DataFrame(rows).fillna("")


def between_approximations(results: pd.DataFrame, axes: Sequence[str] = ()) -> pd.DataFrame:
    """Correlation of the final ranks between approximations at one seed, and of one with itself across seeds; both at
    one place on every other axis.

    The diagonal is the control: agreement between approximations means something only as far as it exceeds it.
    """
    results = results[[ranks is not None for ranks in results["ranks"]]]
    others = [axis for axis in axes if axis not in (SEED, APPROXIMATION) and axis in results]
    # A cell's place on the axes that are not compared, as one value.
    results = results.assign(place=results[others].astype(str).agg(", ".join, axis=1) if others else "")
    names = list(dict.fromkeys(results[APPROXIMATION]))
    table = pd.DataFrame({"approximation": names})
    for other in names:
        table[other] = [_mean_correlation(results, name, other) for name in names]
    return table


def _mean_correlation(results: pd.DataFrame, first: str, second: str) -> float:
    a, b = (results[results[APPROXIMATION] == name] for name in (first, second))
    if first == second:
        pairs = [pair for _, cells in a.groupby("place") for pair in itertools.combinations(cells["ranks"], 2)]
    else:
        keys = ["place", SEED] if SEED in results else ["place"]
        joined = a.merge(b, on=keys, suffixes=("", "_other"))
        pairs = list(zip(joined["ranks"], joined["ranks_other"], strict=True))
    known = [v for v in (_spearman(x, y) for x, y in pairs) if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def _spearman(first: Any, second: Any) -> float:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return float("nan")  # all ranks alike: there is no order to agree on
    return float(stats.spearmanr(first, second).statistic)


def _spread(values: list[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return ""
    if len(known) == 1:
        return f"{known[0]:.2f}"
    return f"{np.mean(known):.2f} ({min(known):.2f} to {max(known):.2f})"
