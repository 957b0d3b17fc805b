"""Do learned ranks depend on task and model, or on the seed? The Spearman correlation of rank maps tells."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from scipy import stats

from engine.study.rows import APPROXIMATION, SEED, TASK, labelled
from engine.study.words import spread


def between_seeds(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """A row per method or variant, a column per task: mean (range) of the correlation over all pairs of seeds.

    Two unrelated rank maps of n layers correlate by 0 +- 1 / sqrt(n - 1); shuffles within layers of one size or type
    may correlate more, as these groups keep their mean rank. Runs without ranks, or with equal ranks in all layers
    (uniform LoRA), are left out. The table is empty if no method has two seeds on one task.
    """
    rows = []
    for name, group in labelled(results.dropna(subset=["ranks"]), axes).groupby("row", sort=False):
        row = {
            str(task): spread(_correlations(itertools.combinations(ranks, 2)), "mean", 2)
            for task, ranks in group.groupby(TASK, sort=False)["ranks"]
        }
        if any(row.values()):
            rows.append({"": name, **row})
    return pd.DataFrame(rows).fillna("")


def between_approximations(results: pd.DataFrame, axes: Sequence[str] = ()) -> pd.DataFrame:
    """Correlation of the final ranks between approximations at one seed and, on the diagonal, of each approximation
    with itself across seeds; only runs with the same values on every other axis are compared.

    The diagonal is the control: that two approximations agree means something only if their value exceeds it.
    """
    results = results.dropna(subset=["ranks"])
    others = [axis for axis in axes if axis not in (SEED, APPROXIMATION) and axis in results]
    # The values on all axes but the seed and the approximation, as one text.
    results = results.assign(place=results[others].astype(str).agg(", ".join, axis=1) if others else "")
    names = list(dict.fromkeys(results[APPROXIMATION]))
    table = pd.DataFrame({"approximation": names})
    for other in names:
        table[other] = [_mean_correlation(results, name, other) for name in names]
    return table


def _mean_correlation(results: pd.DataFrame, first: str, second: str) -> float:
    a, b = (results[results[APPROXIMATION] == name] for name in (first, second))
    if first == second:
        pairs = [pair for _, ranks in a.groupby("place")["ranks"] for pair in itertools.combinations(ranks, 2)]
    else:
        joined = a.merge(b, on=["place", SEED] if SEED in results else ["place"], suffixes=("", "_other"))
        pairs = list(zip(joined["ranks"], joined["ranks_other"], strict=True))
    return float(_correlations(pairs).mean())


def _correlations(pairs: Iterable[tuple[Any, Any]]) -> pd.Series:
    """Spearman correlation of each pair of rank maps. A map with equal ranks in all layers has no order, and its pairs
    are left out."""
    ordered = [pair for pair in pairs if all(len(set(ranks)) > 1 for ranks in pair)]
    return pd.Series([stats.spearmanr(*pair).statistic for pair in ordered], dtype=float)
