"""Pictures of a study: the metric of each row; if it compares approximations, also their cosines and their costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from autolora.configs.search import BUILT_IN, Implicit
from autolora.engine.report.charts import BLUE, ORANGE
from autolora.engine.report.figures import save_figure
from autolora.engine.study.own_hypergradients import compared_name
from autolora.engine.study.rows import OPTIONS, OUTER, REFERENCE, SEARCHED_BY, SEED, TASK, labelled, panels, shortened

COST = "step_cost"
"""The column with the seconds of an outer step with its inner steps, divided by those of as many plain LoRA steps."""
EXACT = 1e-8
"""The least 1 - cosine that is drawn; smaller ones are nothing but rounding."""
COLOURS = len(plt.rcParams["axes.prop_cycle"])
STYLES = ("-", "--", ":")
"""The lines of the first COLOURS approximations, of the next, and so on."""


def metric_by_row(results: pd.DataFrame, axes: Sequence[str], path: Path) -> None:
    """Draws a panel for each task: a tick at the median over the seeds of each row, and a point for each run."""
    tasks = panels(results, axes)
    size = (7.2, len(tasks) * (1.2 + 0.36 * max(len(panel.medians) for panel in tasks)))
    figure, drawn = plt.subplots(len(tasks), 1, figsize=size, squeeze=False, layout="constrained")
    for place, panel in zip(drawn.flat, tasks, strict=True):
        rows = {name: row for row, name in enumerate(panel.medians.index)}
        place.plot(panel.medians, list(rows.values()), "|", markersize=18, markeredgewidth=3, color=BLUE)
        place.plot(panel.runs["score"], panel.runs["row"].map(rows), "o", markersize=5, color=ORANGE)
        place.set_yticks(range(len(rows)), list(map(shortened, rows)))
        place.set_ylim(-0.5, len(rows) - 0.5)
        place.grid(axis="y", linewidth=0.4)
        place.invert_yaxis()
        place.set_xlabel(panel.label)
    save_figure(figure, path)


def cosine_over_training(probe: pd.DataFrame, path: Path) -> None:
    """Draws the cosine of each approximation's implicit term to the exact one over the steps, a column of two panels
    per eta; the lower panel has 1 - cosine on a logarithmic axis, which separates those that are nearly exact."""
    without_term = [name for name, kind in BUILT_IN.items() if not issubclass(kind, Implicit)]
    probe = probe[~probe["approximation"].isin(without_term)]
    etas = list(probe.groupby("eta", sort=False))
    size = (3.6 * len(etas) + 1.6, 6.4)
    figure, panels = plt.subplots(
        2, len(etas), figsize=size, sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    for (axes, below), (eta, compared) in zip(panels.T, etas, strict=True):
        for number, (name, rows) in enumerate(compared.groupby("approximation", sort=False)):
            line = STYLES[number // COLOURS % len(STYLES)]  # matplotlib begins again with its first colour
            look = {"linestyle": line, "marker": "o", "markersize": 4, "label": shortened(str(name))}
            axes.plot(rows["step"], rows["cosine"], **look)
            below.semilogy(rows["step"], (1 - rows["cosine"]).clip(lower=EXACT), **look)
        axes.set_title(f"eta = {eta}")
        below.yaxis.set_major_formatter("{x:g}")  # figures here write no mathematical text, as 10^-2 would be
        below.set_xlabel("search step")
    panels[0, 0].set_ylabel("cosine to the exact term")
    panels[1, 0].set_ylabel(f"1 - cosine\n({EXACT:g}: that or less)")
    legend_beside(panels[0, -1])
    save_figure(figure, path)


def metric_against_cost(results: pd.DataFrame, axes: Sequence[str], cost: pd.DataFrame, path: Path) -> None:
    """Draws a panel for each task: the final metric of each row of the table (median and range over the seeds) against
    the cost of an outer step with its inner steps. At least one row's approximation must have a cost."""
    tasks = panels(timed(results, cost), axes)
    figure, drawn = plt.subplots(len(tasks), 1, figsize=(6.4, 3.8 * len(tasks)), squeeze=False, layout="constrained")
    for place, panel in zip(drawn.flat, tasks, strict=True):
        _points_at_cost(place, panel.runs, "score")
        place.set_ylabel(panel.label)
    save_figure(figure, path)


def outer_loss_against_cost(results: pd.DataFrame, axes: Sequence[str], cost: pd.DataFrame, path: Path) -> None:
    """Draws a panel for each task: L_val, the loss on D_val of the searched models, minus that of the reference at the
    same seed (median and range over the seeds), against the cost of an outer step with its inner steps.

    The difference is drawn because L_val differs more between seeds than between approximations. The reference is the
    row that study.reference names, or, if it names none or one without L_val, the first one that is drawn. At least
    one run must have L_val and a cost.
    """
    known = labelled(results, axes)
    known = known[known[OUTER].notna()]
    tasks = list(timed(known, cost).groupby(TASK, sort=False))
    figure, drawn = plt.subplots(len(tasks), 1, figsize=(6.4, 3.8 * len(tasks)), squeeze=False, layout="constrained")
    for place, (task, runs) in zip(drawn.flat, tasks, strict=True):
        reference = _reference(known[known[TASK] == task], runs)
        _points_at_cost(place, _beside(reference, runs), OUTER)
        minus = f"\nminus that of {shortened(str(reference['row'].iloc[0]))} at the same seed" if SEED in runs else ""
        place.set_ylabel(f"L_val after the search{minus}\n(nats, less is better), {task}")
    save_figure(figure, path)


def _reference(known: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    """The runs of the row with which those that are `drawn` are compared. The chosen one need not be drawn itself: a
    search without a hypergradient has L_val, but no outer step that was timed."""
    first = known[known["row"] == drawn["row"].iloc[0]]
    if REFERENCE not in known:
        return first
    chosen = known[known[REFERENCE]]
    if SEED in known:
        chosen = chosen[chosen[SEED].isin(drawn[SEED])]
    return first if chosen.empty else chosen[chosen["row"] == chosen["row"].iloc[0]]


def _beside(reference: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with L_val minus that of the reference at the same seed (the mean, if it has several runs there); those
    at a seed that it lacks are left out. Without an axis of seeds the runs stay as they are."""
    if SEED not in runs:
        return runs
    at_seed = reference.groupby(SEED)[OUTER].mean()
    return runs.assign(**{OUTER: runs[OUTER] - runs[SEED].map(at_seed)}).dropna(subset=OUTER)


def timed(results: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """The runs whose approximation was timed, with a column for its cost; the type `none` was not."""
    ratios = cost.set_index("approximation")["ratio_to_lora"]
    names = results[SEARCHED_BY]
    both = [compared_name(*row, several=True) for row in zip(names, results[OPTIONS], strict=True)]
    names = names.where(names.isin(ratios.index), both)
    return results.assign(**{COST: names.map(ratios)}).dropna(subset=COST)


def _points_at_cost(place: Any, runs: pd.DataFrame, column: str) -> None:
    """Draws median and range of `column` for each row of the table, at the cost of its approximation."""
    for name, group in runs.groupby("row", sort=False):
        values = group[column]
        median = values.median()
        reach = [[median - values.min()], [values.max() - median]]
        place.errorbar(group[COST].iloc[0], median, yerr=reach, marker="o", capsize=3, label=shortened(str(name)))
    legend_beside(place)
    place.set_xlabel("seconds of an outer step with its inner steps\n/ seconds of as many plain LoRA steps")


def legend_beside(axes: Any) -> None:
    """Names the lines to the right of a panel, where the names cover none of them."""
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
