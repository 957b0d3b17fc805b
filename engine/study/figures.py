"""Pictures of a study: the metric of each row; if it compares approximations, also their cosines, costs and losses."""

from collections.abc import Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autolora.configs.search import BUILT_IN, Implicit
from autolora.engine.report.figures import BLUE, ORANGE
from autolora.engine.study.descent import TaskDescents
from autolora.engine.study.own_hypergradients import compared_name
from autolora.engine.study.rows import OPTIONS, SEARCHED_BY, SEED, TASK, panels, shortened

COST = "step_cost"
"""The column with the seconds of an outer step with its inner steps, divided by those of as many plain LoRA steps."""
EXACT = 1e-8
"""The least 1 - cosine that is drawn; smaller ones are nothing but rounding."""
COLOURS = len(matplotlib.rcParams["axes.prop_cycle"])
STYLES = ("-", "--", ":")
"""The lines of the first COLOURS rows, of the next, and so on."""


def metric_by_row(results: pd.DataFrame) -> Figure:
    """A panel for each task: a tick at the median over the seeds of each row, and a point for each run."""
    tasks = panels(results)
    heights = [0.6 + 0.22 * max(1, len(panel.medians)) for panel in tasks]
    figure = Figure((7.2, sum(heights)), layout="constrained")
    drawn = figure.subplots(len(tasks), 1, squeeze=False, gridspec_kw={"height_ratios": heights}).flat
    for place, panel in zip(drawn, tasks, strict=True):
        rows = {name: row for row, name in enumerate(panel.medians.index)}
        place.plot(panel.medians, list(rows.values()), "|", markersize=14, markeredgewidth=3, color=BLUE)
        place.plot(panel.runs["score"], panel.runs["row"].map(rows), "o", markersize=4, color=ORANGE)
        place.set_yticks(range(len(rows)), list(map(shortened, rows)))
        place.set_ylim(len(rows) - 0.5, -0.5)
        place.grid(axis="y", linewidth=0.3)
        place.set_xlabel(panel.label)
    return figure


def cosine_over_training(probe: pd.DataFrame) -> Figure:
    """The cosine of each approximation's implicit term to the exact one over the steps, a column of two panels for
    each eta; the lower one has 1 - cosine on a logarithmic axis, which separates those that are nearly exact."""
    without_term = [name for name, kind in BUILT_IN.items() if not issubclass(kind, Implicit)]
    etas = list(probe[~probe["approximation"].isin(without_term)].groupby("eta", sort=False))
    figure = Figure((3 * len(etas) + 1.8, 5.6), layout="constrained")
    drawn = figure.subplots(2, len(etas), sharex=True, sharey="row", squeeze=False)
    for (above, below), (eta, compared) in zip(drawn.T, etas, strict=True):
        for number, (name, rows) in enumerate(compared.groupby("approximation", sort=False)):
            look = {"linestyle": _style(number), "marker": "o", "markersize": 3, "label": shortened(str(name))}
            above.plot(rows["step"], rows["cosine"], **look)
            below.semilogy(rows["step"], (1 - rows["cosine"]).clip(lower=EXACT), **look)
        above.set_title(f"eta = {eta}")
        below.yaxis.set_major_formatter("{x:g}")  # 10^-2 would be mathematical text, which is off
        below.set_xlabel("search step")
    drawn[0, 0].set_ylabel("cosine to the exact term")
    drawn[1, 0].set_ylabel(f"1 - cosine\n({EXACT:g}: that or less)")
    _legend_beside(drawn[0, -1])
    return figure


def timed(results: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """The runs whose approximation was timed, with a column for its cost."""
    ratios = cost.set_index("approximation")["ratio_to_lora"]
    names = results[SEARCHED_BY]
    both = [compared_name(*row, several=True) for row in zip(names, results[OPTIONS], strict=True)]
    names = names.where(names.isin(ratios.index), both)
    return results.assign(**{COST: names.map(ratios)}).dropna(subset=COST)


def against_cost(runs: pd.DataFrame, column: str, label: str, *, within_seed: bool = False) -> Figure:
    """A panel for each task: median and range of a column over the seeds of each row of timed runs, against the cost
    of an outer step. `within_seed`: minus the mean of all rows at the same seed, as seeds differ more than rows do."""
    runs = runs.dropna(subset=column)
    if within_seed and SEED in runs:
        runs = runs.assign(**{column: runs[column] - runs.groupby([TASK, SEED])[column].transform("mean")})
    tasks = list(runs.groupby(TASK, sort=False))
    figure = Figure((7.2, 3.2 * len(tasks)), layout="constrained")
    for place, (task, found) in zip(figure.subplots(len(tasks), 1, squeeze=False).flat, tasks, strict=True):
        for name, group in found.groupby("row", sort=False):
            middle = group[column].median()
            reach = [[middle - group[column].min()], [group[column].max() - middle]]
            place.errorbar(group[COST].iloc[0], middle, reach, marker="o", capsize=3, label=shortened(str(name)))
        place.set_xlabel("seconds of an outer step with its inner steps / seconds of as many LoRA steps")
        place.set_ylabel(f"{label}, {task}")
        _legend_beside(place)
    return figure


def outer_loss_over_passes(tasks: Sequence[TaskDescents]) -> Figure:
    """A panel for each task: the smoothed loss on minibatches of D_val over the passes so far, a line for each row,
    with a band of its standard error."""
    figure = Figure((7.2, 3.4 * len(tasks)), layout="constrained")
    for place, task in zip(figure.subplots(len(tasks), 1, squeeze=False).flat, tasks, strict=True):
        for number, (row, line) in enumerate(task.lines.items()):
            marker = "o" if len(line.passes) == 1 else None  # a single point draws no line
            (drawn,) = place.plot(line.passes, line.loss, _style(number), marker=marker, label=shortened(row))
            if line.error is not None:
                low, high = line.loss - line.error, line.loss + line.error
                place.fill_between(line.passes, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
        place.set(title=task.task, xlabel="forward + backward passes so far", ylabel="loss on D_val, smoothed")
        _legend_beside(place)
    return figure


def _style(number: int) -> str:
    """matplotlib begins again with its first colour."""
    return STYLES[number // COLOURS % len(STYLES)]


def _legend_beside(axes: Axes) -> None:
    """Names the lines to the right of a panel, where the names cover none of them."""
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
