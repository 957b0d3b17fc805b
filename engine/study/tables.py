"""The one table of a study, results.parquet, with a row for each finished cell, and what is made of
it: metric and log loss by task, as the paper's Tables 1 and 4; one paired test; the cost over
AdaLoRA's, as its Table 5; and whether ranks and shares agree between seeds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from autolora.configs.schema import Autolora
from autolora.configs.study import word
from autolora.configs.tasks import ERRORS
from autolora.engine import ranks
from autolora.engine.disk.files import read_json
from autolora.engine.study.cells import Cell

SEED = "seed"
TASK = "task"
SCORE = "score"
"""The column with each task's first metric."""
LOSS = "log_loss"
"""The column with the log loss of the evaluation rows and of the unused training rows at a fitted
temperature, nats a label (null: it was not measured)."""
LAYERS = "layers"
"""The column with the names of the layers with LoRA."""
RANKS = "ranks"
"""The column with the rank of each of these layers."""
SHARES = "shares"
"""The column with the share of each of these layers."""
OUTER = "outer_loss"
"""The column with the outer objective, L_val: the loss on D_val of the searched model, before any
rank was chosen, at a fitted temperature, nats a label (null: it was not measured, or the cell
copied another cell's search)."""
READ = "rows"
"""The column that is equal for cells whose losses are of the same rows."""
_LEFT_OUT = ("data", "learning_rates_tried", "machine", "versions")
"""Fields of metrics.json that are no columns."""
OURS = "autolora"
HEAD = "head"
ADALORA = "adalora"
OF_GAIN = "part of LoRA's gain"
"""The unit of differences that are divided by the gain of their task."""
# With fewer pairs, the p of the two-sided exact test cannot fall below 0.05.
_LEAST_PAIRS = 6


def collect(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each finished cell. Raises UserError that names a damaged file."""
    table = pd.DataFrame([_row(cell) for cell in cells if cell.finished])
    if table.empty:
        return table
    for axis in cells[0].values:
        # a column of parquet has one type
        if table[axis].dtype == object:
            table[axis] = table[axis].map(str)
    return table


def _row(cell: Cell) -> dict[str, Any]:
    """The columns of a finished cell; none depends on another cell."""
    result = read_json(cell.folder.metrics)
    kept = {
        "metric" if key == "metrics" else key: one
        for key, one in result.items()
        if key not in _LEFT_OUT
    }
    fields: dict[Any, Any] = pd.json_normalize(kept).to_dict("records")[0]
    read = {part: (result.get("data") or {}).get(part) for part in ("evaluation", "unused")}
    # a task is called like its file, and several files may have one name
    if "task.path" in cell.values:
        fields[TASK] += f" ({cell.values['task.path']})"
    return {
        **{
            axis: value if type(value) in (int, float) else word(value)
            for axis, value in cell.values.items()
        },
        **fields,
        "cell": cell.name,
        "row": cell.row,
        "main_metric": next(iter(result["metrics"])),
        SCORE: next(iter(result["metrics"].values())),
        READ: word(read),
        **_of_layers(cell),
    }


def _of_layers(cell: Cell) -> dict[str, Any]:
    """Ranks and shares of the layers, and L_val of the searched model."""
    config = cell.config
    if not config.has_lora:
        return dict.fromkeys((LAYERS, RANKS, SHARES, OUTER))
    record = ranks.load(cell.folder.ranks)
    shares = [layer.layer_share for layer in record.layers]
    # else another cell has measured it
    own = isinstance(config, Autolora) and config.measure.from_run is None
    return {
        LAYERS: [layer.name for layer in record.layers],
        RANKS: [layer.rank for layer in record.layers],
        SHARES: shares if own and None not in shares else None,
        OUTER: record.evidence.loss if own and record.evidence else None,
    }


def spread(values: pd.Series, digits: int) -> str:
    """`0.801 (0.800 to 0.802)`: the median of the numbers, and their range if there are several."""
    text = f"{values.median():.{digits}f}"
    return (
        f"{text} ({values.min():.{digits}f} to {values.max():.{digits}f})"
        if len(values) > 1
        else text
    )


def by_task(results: pd.DataFrame, column: str = SCORE) -> pd.DataFrame:
    """Tables 1 and 4: a row for each method or variant, a column for each task with median and
    range over the seeds, and the mean of the medians; empty if no run has the value.

    `column`: SCORE, each task's first metric, as a fraction; LOSS or OUTER, in nats. There is no
    mean of losses, nor of metrics of which more and less is better.
    """
    known = results.dropna(subset=[column])
    if known.empty:
        return pd.DataFrame()
    groups = known.groupby(["row", TASK], sort=False)
    digits = 3 if column == SCORE else 4
    tasks = known.groupby(TASK, sort=False)["main_metric"].first()
    table = (
        groups[column].apply(spread, digits=digits).unstack(TASK, fill_value="")[list(tasks.index)]
    )
    table = table.reindex(known["row"].unique())
    if column == SCORE and known["main_metric"].isin(ERRORS).nunique() < 2:
        table["mean"] = groups[column].median().unstack(TASK).mean(axis=1, skipna=False)
    table = table.rename(
        columns={t: f"{t} ({unit if column == SCORE else 'nats'})" for t, unit in tasks.items()}
    )
    rows = known.groupby("row")
    table["LoRA parameters"] = rows["lora_parameters"].median().astype(int)
    table["runs"] = rows.size()
    return table.reset_index(names="")


def paired(
    results: pd.DataFrame, ours: str = OURS, column: str = SCORE, *, corrected: bool = False
) -> pd.DataFrame:
    """Row `ours` against each other row on the same task and seed: mean difference with its
    standard error over the pairs, wins, Wilcoxon p.

    Each difference is divided by what row `ours` gains on its task over the runs of method head,
    the mean over the seeds that have both: tasks differ in the size of their losses. The outer
    objective is divided by the gain in log loss, as a head has no search. Tasks on which it gains
    nothing are left out. Without any gain the differences of a single task keep their unit, which
    stands in the table; those of several tasks have no mean and no p.

    A positive difference says that `ours` is better, also for a loss or an
    error, of which less is better. p is two-sided, and left out if fewer than six pairs differ;
    `corrected`: with a column corrected by Holm's method. The table is empty if row `ours` is
    missing or the only one.
    """
    gains = gains_of(results, ours, LOSS if column == OUTER else column)
    known = results.dropna(subset=[column])
    unit = OF_GAIN if len(gains) else "metric" if column == SCORE else "nats"
    rows = []
    for name in known["row"].unique():
        pairs = _beside(known[known["row"] == name], known[known["row"] == ours])
        if name == ours or pairs.empty:
            continue
        difference = _better(pairs, column)
        difference = difference / pairs[TASK].map(gains) if len(gains) else difference
        # floats would break ties between metrics that count rows
        difference = difference.dropna().round(9)
        sized = difference if len(gains) or known[TASK].nunique() < 2 else difference * math.nan
        rows.append(
            {
                f"{ours} against": name,
                "pairs": len(difference),
                f"mean difference, {unit}": sized.mean(),
                "standard error": sized.sem(),
                "better": int((difference > 0).sum()),
                "worse": int((difference < 0).sum()),
                "p": wilcoxon(sized),
            }
        )
    table = pd.DataFrame(rows)
    if rows and corrected:
        table.insert(list(table).index("p") + 1, "p, Holm", holm(table["p"]))
    return table


def gains_of(results: pd.DataFrame, ours: str, column: str) -> pd.Series:
    """Task -> by how much row `ours` is better than method head, the mean over the seeds that have
    both; only tasks on which it is."""
    known = results.dropna(subset=[column])
    pairs = _beside(_nearest(known, HEAD, ours), known[known["row"] == ours])
    gains = _better(pairs, column).groupby(pairs[TASK]).mean()
    return gains[gains > 0]


def cost(results: pd.DataFrame) -> pd.DataFrame:
    """A row for each row: mean rank, and seconds of the search and of all stages, as medians; and
    as Table 5 the total over that of method adalora at the same task and seed, where a study has
    it."""
    columns = {"mean_rank": "mean rank", "seconds.search": "search s", "seconds.total": "total s"}
    numbers = results.reindex(columns=["row", *columns]).astype(dict.fromkeys(columns, float))
    table = numbers.groupby("row", sort=False).median().rename(columns=columns)
    found = [
        _beside(runs, _nearest(results, ADALORA, str(row)))
        for row, runs in results.groupby("row", sort=False)
    ]
    pairs = pd.concat(found)
    if len(pairs):
        ratio = pairs["seconds.total"] / pairs["seconds.total_other"]
        table[f"total time / {ADALORA}'s"] = ratio.groupby(pairs["row"]).apply(spread, digits=2)
    return table.reset_index(names="")


def _nearest(results: pd.DataFrame, method: str, row: str) -> pd.DataFrame:
    """The runs of this method whose row differs from `row` on the fewest axes."""
    runs = results[results["method"] == method]
    axes = set(row.split(", "))
    differ = runs["row"].map(lambda name: len(set(name.split(", ")) ^ axes))
    return runs[differ == differ.min()]


def _beside(runs: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The runs, each beside that of the others on its task and seed, whose columns end in
    `_other`."""
    return runs.merge(
        others.drop_duplicates([TASK, SEED]), on=[TASK, SEED], suffixes=("", "_other")
    )


def _better(pairs: pd.DataFrame, column: str) -> pd.Series:
    """By how much the other run of each pair is better."""
    lower = pairs["main_metric"].isin(ERRORS) if column == SCORE else True
    better: pd.Series = (pairs[f"{column}_other"] - pairs[column]) * np.where(lower, -1, 1)
    return better


def holm(p: pd.Series) -> pd.Series:
    """The p of several tests, corrected by Holm's method: the chance that any test errs stays below
    the level. Unknown p stay unknown and do not count as tests."""
    known = p.dropna().sort_values()
    factors = np.arange(len(known), 0, -1)
    corrected = pd.Series(
        np.maximum.accumulate(known.to_numpy() * factors).clip(max=1.0), index=known.index
    )
    return corrected.reindex(p.index)


def wilcoxon(difference: pd.Series) -> float:
    """Two-sided p of the signed-rank test; NaN where too few pairs differ for it to say
    anything."""
    if difference.isna().any() or (difference != 0).sum() < _LEAST_PAIRS:
        return math.nan
    return float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)


def agreement(results: pd.DataFrame, column: str = RANKS) -> pd.DataFrame:
    """Mean Spearman correlation of the layers' ranks or shares (`column`): between two rows at one
    task and seed and, on the diagonal, of each row with itself at one task across seeds; empty if
    there is no such pair.

    The diagonal is the control: two approximations agree only if their correlation exceeds that of
    each with itself across seeds. Runs with equal values in all layers (uniform LoRA) have no
    order, and are left out.
    """
    known = results.dropna(subset=[column])
    found = []
    if known.empty:
        return known
    for _, runs in known.groupby(TASK):
        layers = {
            (one["row"], one[SEED]): pd.Series(one[column], one[LAYERS])
            for _, one in runs.iterrows()
        }
        table = (
            pd.DataFrame(layers)
            .corr("spearman")
            .rename_axis(index=["row", SEED], columns=["other", "beside"])
        )
        stacked: Any = table.stack([0, 1], future_stack=True)
        found.append(stacked.rename("agreement").reset_index())
    pairs = pd.concat(found)
    pairs = pairs[(pairs["row"] == pairs["other"]) != (pairs[SEED] == pairs["beside"])].dropna()
    order = [row for row in known["row"].unique() if row in set(pairs["row"])]
    table = pairs.pivot_table(index="row", columns="other", values="agreement")
    return table.reindex(index=order, columns=order).reset_index(names="")
