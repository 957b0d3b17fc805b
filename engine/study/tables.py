"""The tables of a study: a row for each combination of its axes; the metric by task, as the paper's Tables 1 and 4;
paired tests; the cost over AdaLoRA's, as the paper's Table 5."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from engine.study.rows import SEED, TASK, labelled, row_keys
from engine.study.values import word
from engine.study.words import span, spread
from problems.tasks.base import ERRORS

OURS, COST_REFERENCE = "autolora", "adalora"
# With fewer pairs, the p of the two-sided exact test cannot fall below 0.05.
_LEAST_PAIRS = 6


def summarise(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """A row for each combination of the axes other than the seed: median and range of each metric over the seeds, mean
    rank, size, seconds.

    Metrics of one class ("protein.f1") stay in results.parquet: the table would become too wide to be read.
    """
    keys = [axis for axis in axes if axis != SEED and axis in results] or ["all"]
    metrics = [name for name in map(str, results) if name.startswith("metric.") and name.count(".") == 1]
    rows = []
    for place, group in results.assign(all="all").groupby(keys, sort=False, dropna=False):
        # As text, a small learning rate keeps its digits; as a number, a table would show it as 0.000.
        row: dict[str, object] = {key: word(value) for key, value in zip(keys, place, strict=True)}
        row["runs"] = len(group)
        for column in metrics:  # tasks differ in their metrics, so that a field of the table may be empty
            name = column.removeprefix("metric.")
            row |= {name: group[column].median(), f"{name} range": span(group[column])}
        row |= {"mean rank": group["mean_rank"].mean(), **_sizes(group)}
        row |= {"search s": group["search_seconds"].median(), "total s": group["total_seconds"].median()}
        rows.append(row)
    return pd.DataFrame(rows)


def by_task(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Tables 1 and 4: a row for each method or variant, a column for each task with median and range over the seeds,
    and the mean of the medians.

    Each task's metric is the one it names first, as a fraction.
    """
    table = labelled(results, axes)
    rows = []
    for name, group in table.groupby("row", sort=False):
        tasks = list(group.groupby(TASK, sort=False))
        row: dict[str, object] = {"": name}
        row |= {f"{task} ({cells['main_metric'].iloc[0]})": spread(cells["score"]) for task, cells in tasks}
        # Means over different tasks cannot be compared.
        complete = len(tasks) == table[TASK].nunique()
        row["mean"] = float(np.mean([cells["score"].median() for _, cells in tasks])) if complete else float("nan")
        rows.append({**row, **_sizes(group), "runs": len(group)})
    return pd.DataFrame(rows)


def _sizes(group: pd.DataFrame) -> dict[str, int]:
    columns = ("lora_parameters", "LoRA parameters"), ("trainable_parameters", "trainable parameters")
    return {title: int(group[column].median()) for column, title in columns}


def searched_rows(results: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The rows to compare with all others: every row of method autolora, or, if the study has no other method, only
    the one that is named autolora."""
    table, _ = _named(results, axes)
    names = list(dict.fromkeys(table.loc[table["method"] == OURS, "name"]))
    return names if (table["method"] != OURS).any() else [name for name in names if name == OURS]


def _named(results: pd.DataFrame, axes: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """`results` with a column `name`, and the names of the columns in which the two runs of a pair agree.

    `name` is the variant or the method if the study has that axis, else all values of the row. The columns are task,
    seed and every other axis.
    """
    keys = row_keys(results, axes)
    by = next((axis for axis in ("variant", "method") if axis in keys), None)
    if by is None:
        return labelled(results, axes).rename(columns={"row": "name"}), [k for k in (TASK, SEED) if k in results]
    others = [key for key in keys if key != by]
    return results.assign(name=results[by]), [k for k in (TASK, SEED, *others) if k in results]


def _pairs(
    results: pd.DataFrame, axes: Sequence[str], reference: str
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """For each row of the table its name, its runs, and its pairs; rows without pairs are left out.

    A pair is a run joined with the run of row `reference` at the same task, seed and other axes; the columns of the
    latter end in `_reference`.
    """
    table, keys = _named(results, axes)
    base = table[table["name"] == reference]
    for name, group in table.groupby("name", sort=False):
        pairs = group.merge(base, on=keys, suffixes=("", "_reference"))
        if not pairs.empty:
            yield str(name), group, pairs


def paired(results: pd.DataFrame, axes: Sequence[str], ours: str = OURS) -> pd.DataFrame:
    """Row `ours` against each other row on the same task and seed: mean difference, wins, Wilcoxon p.

    A positive difference says that `ours` is better, also for a metric of which less is better. p is two-sided, not
    corrected for the number of rows, and left out if fewer than six pairs differ. The table is empty if row `ours` is
    missing or is the only one.
    """
    rows = []
    for name, _, pairs in _pairs(results, axes, ours):
        if name == ours:
            continue
        difference = (pairs["score_reference"] - pairs["score"]) * np.where(pairs["main_metric"].isin(ERRORS), -1, 1)
        sizes = pairs["lora_parameters_reference"] / pairs["lora_parameters"].replace(0, np.nan)
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
    """Table 5: total seconds (search, answer and retraining) over those of row `reference`, same task and seed.

    The ratios are medians over the pairs, the seconds medians over all runs of the row. The table is empty if row
    `reference` is missing or is the only one.
    """
    rows = []
    for name, group, pairs in _pairs(results, axes, reference):
        ratio = pairs["total_seconds"] / pairs["total_seconds_reference"]
        rows.append(
            {
                "": name,
                f"total time / {reference}'s": float(ratio.median()),
                "range": span(ratio, 2),
                "total s": float(group["total_seconds"].median()),
                "search s": float(group["search_seconds"].astype(float).median()),
            }
        )
    return pd.DataFrame(rows) if len(rows) > 1 else pd.DataFrame()


def _wilcoxon(difference: pd.Series) -> float:
    """Two-sided p of the signed-rank test; NaN where too few pairs differ for it to say anything."""
    if (difference != 0).sum() < _LEAST_PAIRS:
        return float("nan")
    return float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)
