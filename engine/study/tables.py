"""The tables of a study: metric and log loss by task, as the paper's Tables 1 and 4; one paired test; the cost over
AdaLoRA's, as its Table 5; and whether ranks and shares agree between seeds."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from autolora.configs.schema import METHODS
from autolora.configs.tasks import ERRORS
from autolora.engine.study.results import LAYERS, LOSS, OUTER, RANKS, SCORE, SEED, TASK

OURS, HEAD, ADALORA = "autolora", "head", "adalora"
LEFT_OUT = "left out, equal ranks"
"""The column with the number of pairs that are left out, as both runs have the same ranks."""
OF_GAIN = "part of LoRA's gain"
"""The unit of differences that are divided by the gain of their task."""
AT_GIVEN_RANKS = {method for method, kind in METHODS.items() if kind.trains == "lora"}
"""The methods that train LoRA in the same way once they have their ranks."""
# With fewer pairs, the p of the two-sided exact test cannot fall below 0.05.
_LEAST_PAIRS = 6


def spread(values: pd.Series, middle: str = "median", digits: int = 3) -> str:
    """`0.801 (0.800 to 0.802)`: the median or mean of the numbers, and their range if there are several."""
    known = values.dropna()
    text = f"{known.agg(middle):.{digits}f}" if len(known) else ""
    return f"{text} ({known.min():.{digits}f} to {known.max():.{digits}f})" if len(known) > 1 else text


def by_task(results: pd.DataFrame, column: str = SCORE) -> pd.DataFrame:
    """Tables 1 and 4: a row for each method or variant, a column for each task with median and range over the seeds,
    and the mean of the medians; empty if no run has the value.

    `column`: SCORE, each task's first metric, as a fraction; LOSS or OUTER, in nats. There is no mean of losses, nor
    of metrics of which more and less is better.
    """
    known = results.dropna(subset=[column])
    if known.empty:
        return pd.DataFrame()
    groups, digits = known.groupby(["row", TASK], sort=False), 3 if column == SCORE else 4
    tasks = known.groupby(TASK, sort=False)["main_metric"].first()
    table = groups[column].apply(spread, digits=digits).unstack(TASK, fill_value="")[list(tasks.index)]
    table = table.reindex(known["row"].unique())
    if column == SCORE and known["main_metric"].isin(ERRORS).nunique() < 2:
        table["mean"] = groups[column].median().unstack(TASK).mean(axis=1, skipna=False)
    table = table.rename(columns={t: f"{t} ({unit if column == SCORE else 'nats'})" for t, unit in tasks.items()})
    rows = known.groupby("row")
    table["LoRA parameters"] = rows["lora_parameters"].median().astype(int)
    table["runs"] = rows.size()
    return table.reset_index(names="")


def paired(results: pd.DataFrame, ours: str = OURS, column: str = SCORE, *, corrected: bool = False) -> pd.DataFrame:
    """Row `ours` against each other row on the same task and seed: mean difference with its standard error over the
    pairs, wins, Wilcoxon p.

    Each difference is divided by what row `ours` gains on its task over the runs of method head, the mean over the
    seeds that have both: tasks differ in the size of their losses. The outer objective is divided by the gain in log
    loss, as a head has no search. Tasks on which it gains nothing are left out. Without any gain the differences of a
    single task keep their unit, which stands in the table; those of several tasks have no mean and no p.

    Runs of two methods that train LoRA at ranks that are equal layer by layer say nothing about ranks: LEFT_OUT counts
    the pairs that are left out for this. A positive difference says that `ours` is better, also for a loss or an
    error, of which less is better. p is two-sided, and left out if fewer than six pairs differ; `corrected`: with a
    column corrected by Holm's method. The table is empty if row `ours` is missing or the only one.
    """
    gains = gains_of(results, ours, LOSS if column == OUTER else column)
    known = results.dropna(subset=[column])
    unit = OF_GAIN if len(gains) else "metric" if column == SCORE else "nats"
    rows = []
    for name in known["row"].unique():
        pairs = _beside(known[known["row"] == name], known[known["row"] == ours])
        if name == ours or pairs.empty:
            continue
        same = _same_run(pairs)
        difference = _better(pairs[~same], column)
        difference = difference / pairs[TASK].map(gains) if len(gains) else difference
        difference = difference.dropna().round(9)  # floats would break ties between metrics that count rows
        sized = difference if len(gains) or known[TASK].nunique() < 2 else difference * math.nan
        rows.append({
            f"{ours} against": name,
            "pairs": len(difference),
            LEFT_OUT: int(same.sum()),
            f"mean difference, {unit}": sized.mean(),
            "standard error": sized.sem(),
            "better": int((difference > 0).sum()),
            "worse": int((difference < 0).sum()),
            "p": wilcoxon(sized),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    if rows and corrected:
        table.insert(list(table).index("p") + 1, "p, Holm", holm(table["p"]))
    return table if rows and table[LEFT_OUT].any() else table.drop(columns=LEFT_OUT, errors="ignore")


def gains_of(results: pd.DataFrame, ours: str, column: str) -> pd.Series:
    """Task -> by how much row `ours` is better than method head, the mean over the seeds that have both; only tasks on
    which it is."""
    known = results.dropna(subset=[column])
    pairs = _beside(_nearest(known, HEAD, ours), known[known["row"] == ours])
    gains = _better(pairs, column).groupby(pairs[TASK]).mean()
    return gains[gains > 0]


def cost(results: pd.DataFrame) -> pd.DataFrame:
    """A row for each row: mean rank, and seconds of the search and of all stages, as medians; and as Table 5 the total
    over that of method adalora at the same task and seed, where a study has it."""
    columns = {"mean_rank": "mean rank", "seconds.search": "search s", "seconds.total": "total s"}
    numbers = results.reindex(columns=["row", *columns]).astype(dict.fromkeys(columns, float))
    table = numbers.groupby("row", sort=False).median().rename(columns=columns)
    found = [_beside(runs, _nearest(results, ADALORA, str(row))) for row, runs in results.groupby("row", sort=False)]
    pairs = pd.concat(found)
    if len(pairs):
        ratio = pairs["seconds.total"] / pairs["seconds.total_other"]
        table[f"total time / {ADALORA}'s"] = ratio.groupby(pairs["row"]).apply(spread, digits=2)
    return table.reset_index(names="")


def _nearest(results: pd.DataFrame, method: str, row: str) -> pd.DataFrame:
    """The runs of this method whose row differs from `row` on the fewest axes."""
    runs, axes = results[results["method"] == method], set(row.split(", "))
    differ = runs["row"].map(lambda name: len(set(name.split(", ")) ^ axes))
    return runs[differ == differ.min()]


def _beside(runs: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The runs, each beside that of the others on its task and seed, whose columns end in `_other`."""
    return runs.merge(others.drop_duplicates([TASK, SEED]), on=[TASK, SEED], suffixes=("", "_other"))


def _same_run(pairs: pd.DataFrame) -> pd.Series:
    """Which pairs are of two methods that train alike at the same ranks, and have equal ranks layer by layer. Two runs
    of one method are kept: they differ in a setting, and that it changes no rank is a result."""
    alike = pairs["method"].isin(AT_GIVEN_RANKS) & pairs["method_other"].isin(AT_GIVEN_RANKS)
    columns = [RANKS, f"{RANKS}_other", LAYERS, f"{LAYERS}_other"]
    equal = [
        ranks is not None and np.array_equal(ranks, other) and np.array_equal(layers, other_layers)
        for ranks, other, layers, other_layers in pairs[columns].itertuples(index=False)
    ]
    return alike & (pairs["method"] != pairs["method_other"]) & pd.Series(equal, index=pairs.index, dtype=bool)


def _better(pairs: pd.DataFrame, column: str) -> pd.Series:
    """By how much the other run of each pair is better."""
    lower = pairs["main_metric"].isin(ERRORS) if column == SCORE else True
    better: pd.Series = (pairs[f"{column}_other"] - pairs[column]) * np.where(lower, -1, 1)
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
    if difference.isna().any() or (difference != 0).sum() < _LEAST_PAIRS:
        return math.nan
    return float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)


def between_seeds(results: pd.DataFrame, column: str = RANKS) -> pd.DataFrame:
    """A row per method or variant, a column per task: mean (range) of the Spearman correlation of the layers' ranks or
    shares (`column`) over all pairs of seeds; empty if no row has two seeds on one task.

    Two unrelated maps of n layers correlate by 0 +- 1 / sqrt(n - 1). Left out are runs with equal values in all layers
    (uniform LoRA), and pairs with LoRA in different layers.
    """
    found = _agreements(results, column, of_one_row=True)
    fields = found.groupby(["row", TASK], sort=False)["agreement"].apply(spread, "mean", 2)
    return fields.unstack(TASK, fill_value="").reset_index(names="") if len(fields) else pd.DataFrame()


def between_rows(results: pd.DataFrame, column: str = RANKS) -> pd.DataFrame:
    """Mean Spearman correlation of the layers' ranks or shares between two rows at one task and seed and, on the
    diagonal, of each row with itself across seeds; empty if fewer than two rows have them.

    The diagonal is the control: two approximations agree only if their correlation exceeds that of each with itself
    across seeds. Pairs with LoRA in different layers are left out.
    """
    across = _agreements(results, column, of_one_row=False)
    found = pd.concat([_agreements(results, column, of_one_row=True), across])
    order = list(across["row"].unique())
    table = found.pivot_table(index="row", columns="row_other", values="agreement").reindex(index=order, columns=order)
    return table.reset_index(names="")


def _agreements(results: pd.DataFrame, column: str, *, of_one_row: bool) -> pd.DataFrame:
    """Spearman correlation of the layers' values in each pair of runs on one task: of one row and two seeds, or of two
    rows and one seed."""
    known = results.dropna(subset=[column])[["row", TASK, SEED, LAYERS, column]]
    on = [TASK, "row"] if of_one_row else [TASK, SEED]
    met = known.merge(known, on=on, suffixes=("", "_other"))
    met = met[met[SEED] < met[f"{SEED}_other"]] if of_one_row else met[met["row"] != met["row_other"]]
    met = met.assign(row_other=met["row"]) if of_one_row else met
    found = []
    for layers, others, one, other in zip(
        met[LAYERS], met[f"{LAYERS}_other"], met[column], met[f"{column}_other"], strict=True
    ):
        comparable = np.array_equal(layers, others) and len(set(one)) > 1 and len(set(other)) > 1
        found.append(stats.spearmanr(one, other).statistic if comparable else math.nan)
    return met.assign(agreement=found).dropna(subset=["agreement"])
