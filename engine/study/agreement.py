"""Do learned ranks, and the shares of layers, depend on task and model, or on the seed? The Spearman correlation
between two seeds tells."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from autolora.engine.ranks.controls import module_type
from autolora.engine.ranks.record import RankRecord
from autolora.engine.study.rows import SEED, TASK, labelled, spread

LAYERS = "layers"
"""The column with the names of the layers."""
RANKS, SHARES, WITHIN_TYPE = "ranks", "shares", "shares_within_type"
"""The columns with a number for each layer: its rank, its share, and its share less the mean share of its module
type."""


def shares_of(record: RankRecord | None) -> dict[str, list[float] | None]:
    """The values of the columns SHARES and WITHIN_TYPE for a run with these ranks; None if it measured no shares."""
    shares = [] if record is None else [layer.layer_share for layer in record.layers]
    if record is None or any(share is None for share in shares):
        return {SHARES: None, WITHIN_TYPE: None}
    table = pd.DataFrame({"type": [module_type(layer.name) for layer in record.layers], "share": shares})
    within = table["share"] - table.groupby("type")["share"].transform("mean")
    return {SHARES: table["share"].to_list(), WITHIN_TYPE: within.to_list()}


def between_seeds(results: pd.DataFrame, axes: Sequence[str], column: str = RANKS) -> pd.DataFrame:
    """A row per method or variant, a column per task: mean (range) of the correlation over all pairs of seeds.

    `column`: RANKS, SHARES or WITHIN_TYPE. Two unrelated maps of n layers correlate by 0 +- 1 / sqrt(n - 1); shuffles
    within layers of one size or type may correlate more, as these groups keep their mean rank. Runs without the
    values, or with equal values in all layers (uniform LoRA), are left out, and so are pairs with LoRA in different
    layers. The table is empty if no method has two seeds on one task.
    """
    rows = []
    for name, group in labelled(_with(results, column), axes).groupby("row", sort=False):
        row = {
            str(task): spread(_correlations(itertools.combinations(values, 2)), "mean", 2)
            for task, values in group.groupby(TASK, sort=False)[column]
        }
        if any(row.values()):
            rows.append({"": name, **row})
    return pd.DataFrame(rows).fillna("")


def between_rows(results: pd.DataFrame, axes: Sequence[str], by: str, column: str = RANKS) -> pd.DataFrame:
    """Correlation of the final ranks or shares between two values of the axis `by` at one seed and, on the diagonal,
    of each value with itself across seeds; only runs with the same values on every other axis are compared.

    The diagonal is the control: two approximations (or variants) agree only if their correlation exceeds that of each
    with itself across seeds. `column`: RANKS, SHARES or WITHIN_TYPE. Pairs with LoRA in different layers are left out.
    The table is empty if fewer than two values have such runs.
    """
    results = _with(results, column)
    others = [axis for axis in axes if axis not in (SEED, by) and axis in results]
    # The values on all axes but the seed and `by`, as one text.
    places = results[others].itertuples(index=False, name=None)
    results = results.assign(place=[", ".join(map(str, place)) for place in places])
    names = list(dict.fromkeys(results[by]))
    table = pd.DataFrame({by: names})
    for other in names:
        table[other] = [_mean_correlation(results[results[by] == name], results[results[by] == other], column)
                        for name in names]  # fmt: skip
    return table if len(names) > 1 else pd.DataFrame()


def by_chance(results: pd.DataFrame) -> str:
    """A sentence with the standard deviation of the correlation between unrelated orders of the layers; "" if no run
    has ranks."""
    layers = max((len(values) for values in results[RANKS].dropna()), default=0) if RANKS in results else 0
    return f"Unrelated orders of {layers} layers correlate by 0 +- {(layers - 1) ** -0.5:.2f}." if layers > 1 else ""


def _mean_correlation(first: pd.DataFrame, second: pd.DataFrame, column: str) -> float:
    if first.index.equals(second.index):
        pairs = [pair for _, values in first.groupby("place")[column] for pair in itertools.combinations(values, 2)]
    else:
        on = ["place", SEED] if SEED in first else ["place"]
        joined = first.merge(second, on=on, suffixes=("", "_other"))
        pairs = list(zip(joined[column], joined[f"{column}_other"], strict=True))
    return float(_correlations(pairs).mean())


def _with(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """The runs that have the values, each beside the layers that they belong to; none if the results, which an earlier
    version wrote, lack the column."""
    if column not in results:
        return results.iloc[:0].assign(**{column: None})
    found = results.dropna(subset=[column])
    layers = found[LAYERS] if LAYERS in found else found[column].map(len)
    beside = pd.Series(list(zip(layers, found[column], strict=True)), index=found.index, dtype=object)
    return found.assign(**{column: beside})


def _correlations(pairs: Iterable[tuple[Any, Any]]) -> pd.Series:
    """Spearman correlation of the values in each pair of (layers, values), which have a number for each layer. Left
    out are values that are all equal, as they have no order, and pairs of different layers."""
    found = [
        stats.spearmanr(one, other).statistic
        for (layers, one), (other_layers, other) in pairs
        if np.array_equal(layers, other_layers) and len(set(one)) > 1 and len(set(other)) > 1
    ]
    return pd.Series(found, dtype=float)
