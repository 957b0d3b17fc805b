"""The tables of a study: metric and log loss by task, as the paper's Tables 1 and 4; the cost over AdaLoRA's, as its
Table 5; and whether learned ranks and shares agree between seeds."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from autolora.configs.count_words import counted
from autolora.configs.tasks import ERRORS
from autolora.engine.study.paired import nearest
from autolora.engine.study.rows import LAYERS, LOSS, OUTER, RANKS, SCORE, SEED, TASK, spread

COST_REFERENCE = "adalora"
DIGITS = 3
"""The decimals of numbers in a table, unless it has its own."""
_FIRST = {"row": "", TASK: "task"}


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """A row for each row and task: the first metric, sizes and seconds, as medians over the seeds."""
    columns = {SCORE: "metric", LOSS: "log loss", "mean_rank": "mean rank", "lora_parameters": "LoRA parameters",
               "trainable_parameters": "trainable parameters", "search_seconds": "search s",
               "total_seconds": "total s"}  # fmt: skip
    numbers = results.astype(dict.fromkeys(columns, float))
    places = numbers.groupby(["row", TASK], sort=False)
    table = places[list(columns)].median().rename(columns=columns)
    table.insert(0, "runs", places.size())
    return table.reset_index().rename(columns=_FIRST)


def by_task(results: pd.DataFrame, column: str = SCORE) -> pd.DataFrame:
    """Tables 1 and 4: a row for each method or variant, a column for each task with median and range over the seeds,
    and the mean of the medians; empty if no run has the value.

    `column`: SCORE, each task's first metric, as a fraction; LOSS or OUTER, in nats. A field that has fewer runs than
    other rows of its task says how many: their median is of other seeds. There is no mean of losses, nor of metrics of
    which more and less is better.
    """
    known = results[results[column].notna()]
    if known.empty:
        return pd.DataFrame()
    groups, digits = known.groupby(["row", TASK], sort=False)[column], DIGITS if column == SCORE else DIGITS + 1
    fields = groups.apply(spread, digits=digits)
    most = groups.size().groupby(TASK).transform("max")
    fewer = groups.size().map(lambda runs: f", {counted(int(runs), 'run')}").where(groups.size() < most, "")
    table = (fields + fewer).unstack(TASK)[list(known[TASK].unique())].reindex(known["row"].unique())
    if column == SCORE and known["main_metric"].isin(ERRORS).nunique() < 2:
        table["mean"] = groups.median().unstack(TASK).mean(axis=1, skipna=False)
    units = known.groupby(TASK)["main_metric"].first() if column == SCORE else dict.fromkeys(known[TASK], "nats")
    table = table.fillna(dict.fromkeys(known[TASK].unique(), ""))
    table = table.rename(columns={task: f"{task} ({units[task]})" for task in known[TASK].unique()})
    if column != OUTER:
        table["LoRA parameters"] = known.groupby("row")["lora_parameters"].median().astype(int)
    table["runs"] = known.groupby("row").size()
    return table.reset_index(names="")


def cost(results: pd.DataFrame) -> pd.DataFrame:
    """Table 5: total seconds (search, measurement and retraining) over those of method adalora at the same task and
    seed; medians over the pairs. Empty if no other method has such a pair."""
    columns = [TASK, SEED, "total_seconds"]
    found = [
        runs.merge(
            results.loc[nearest(results, COST_REFERENCE, str(row)), columns].drop_duplicates([TASK, SEED]),
            on=[TASK, SEED], suffixes=("", "_reference"),
        )
        for row, runs in results.groupby("row", sort=False)
    ]  # fmt: skip
    pairs = pd.concat(found, ignore_index=True)
    if set(pairs["method"]) <= {COST_REFERENCE}:
        return pd.DataFrame()
    pairs = pairs.assign(ratio=pairs["total_seconds"] / pairs["total_seconds_reference"])
    places = pairs.astype({"search_seconds": float}).groupby("row", sort=False)
    table = pd.DataFrame({
        f"total time / {COST_REFERENCE}'s": places["ratio"].apply(spread, digits=2),
        "total s": places["total_seconds"].median(), "search s": places["search_seconds"].median(),
    })  # fmt: skip
    return table.reset_index(names="")


def between_seeds(results: pd.DataFrame, column: str = RANKS) -> pd.DataFrame:
    """A row per method or variant, a column per task: mean (range) of the Spearman correlation of the layers' ranks or
    shares (`column`) over all pairs of seeds; empty if no row has two seeds on one task.

    Two unrelated maps of n layers correlate by 0 +- 1 / sqrt(n - 1). Runs with equal values in all layers (uniform
    LoRA) are left out, and so are pairs with LoRA in different layers.
    """
    known = _beside_layers(results, column)
    fields = known.groupby(["row", TASK], sort=False)[column].apply(
        lambda values: spread(_correlations(itertools.combinations(values, 2)), "mean", 2)
    )
    if not any(fields):
        return pd.DataFrame()
    table = fields.unstack(TASK).fillna("")[list(known[TASK].unique())].reindex(known["row"].unique())
    return table[(table != "").any(axis=1)].reset_index(names="")


def between_rows(results: pd.DataFrame, column: str = RANKS) -> pd.DataFrame:
    """Mean Spearman correlation of the layers' ranks or shares between two rows at one task and seed and, on the
    diagonal, of each row with itself across seeds; empty if fewer than two rows have them.

    The diagonal is the control: two approximations agree only if their correlation exceeds that of each with itself
    across seeds. Pairs with LoRA in different layers are left out.
    """
    known = _beside_layers(results, column)
    groups = {str(row): runs for row, runs in known.groupby("row", sort=False)}
    if len(groups) < 2:
        return pd.DataFrame()

    def mean(one: str, other: str) -> float:
        if one == other:
            tasks = groups[one].groupby(TASK)[column]
            pairs = [pair for _, values in tasks for pair in itertools.combinations(values, 2)]
        else:
            both = groups[one].merge(groups[other], on=[TASK, SEED])
            pairs = list(zip(both[f"{column}_x"], both[f"{column}_y"], strict=True))
        return float(_correlations(pairs).mean())

    return pd.DataFrame({"": list(groups), **{name: [mean(one, name) for one in groups] for name in groups}})


def by_chance(results: pd.DataFrame) -> str:
    """A sentence with the standard deviation of the correlation between unrelated orders of the layers; "" if no run
    has ranks."""
    layers = max((len(values) for values in results[RANKS].dropna()), default=0)
    return f"Unrelated orders of {layers} layers correlate by 0 +- {(layers - 1) ** -0.5:.2f}." if layers > 1 else ""


def _beside_layers(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """The runs that have the values, each beside the layers that they belong to."""
    known = results.dropna(subset=[column])
    beside = pd.Series(list(zip(known[LAYERS], known[column], strict=True)), index=known.index, dtype=object)
    return known.assign(**{column: beside})


def _correlations(pairs: Iterable[tuple[Any, Any]]) -> pd.Series:
    """Spearman correlation of the values in each pair of (layers, values), which have a number for each layer. Left
    out are values that are all equal, as they have no order, and pairs of different layers."""
    found = [
        stats.spearmanr(one, other).statistic
        for (layers, one), (other_layers, other) in pairs
        if np.array_equal(layers, other_layers) and len(set(one)) > 1 and len(set(other)) > 1
    ]
    return pd.Series(found, dtype=float)
