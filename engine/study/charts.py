"""The interactive charts of a study: the metric of each method, with every seed as a point."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.plotting import figure

from engine.report.charts import BLUE, ORANGE, chart
from engine.study.tables import SEED, TASK, labelled


def metric_charts(results: pd.DataFrame, axes: Sequence[str]) -> dict[str, figure]:
    """A chart for each task, by the id of its place in the page."""
    tasks = labelled(results, axes).groupby(TASK, sort=False)
    return {f"metric-{i}": _metric_by_row(f"metric-{i}", str(task), cells) for i, (task, cells) in enumerate(tasks)}


def _metric_by_row(name: str, task: str, cells: pd.DataFrame) -> figure:
    """A bar for the median over the seeds of each row of the study's table, a point for each run."""
    known = cells.dropna(subset=["score"])
    medians = known.groupby("row", sort=False)["score"].median()
    order = [str(row) for row in medians.index]
    metric = str(cells["main_metric"].iloc[0])
    made = chart(name, f"{metric}, {task}", "", height=110 + 34 * len(order), y_range=order[::-1])
    bars = ColumnDataSource({"row": order, "score": medians.to_list()})
    made.hbar(y="row", right="score", height=0.7, source=bars, fill_color=BLUE, fill_alpha=0.45, line_color=None)
    seeds = known[SEED].map(str) if SEED in known else pd.Series("", index=known.index)
    points = ColumnDataSource(
        {
            "row": known["row"].to_list(),
            "score": known["score"].to_list(),
            "cell": known["cell"].to_list(),
            "seed": seeds.to_list(),
        }
    )
    dots = made.scatter("score", "row", source=points, size=8, color=ORANGE, line_color=None)
    tips = [("", "@row"), ("seed", "@seed"), (metric, "@score{0.0000}"), ("run", "@cell")]
    made.add_tools(HoverTool(tooltips=tips, renderers=[dots]))
    made.ygrid.visible = False
    return made
