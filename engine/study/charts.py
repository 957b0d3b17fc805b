"""The interactive charts of a study: the metric of each method, with every seed as a point."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from bokeh.models import HoverTool
from bokeh.plotting import figure

from autolora.engine.report.charts import BLUE, ORANGE, chart, source_of
from autolora.engine.study.rows import SEED, Panel, panels, shortened

_LONGEST = 30
"""Letters of a label, so that it leaves room for the points on a telephone."""


def metric_charts(results: pd.DataFrame, axes: Sequence[str]) -> dict[str, figure]:
    """A chart for each task; the key is the id of its element in the page."""
    return {f"metric-{i}": _drawn(f"metric-{i}", panel) for i, panel in enumerate(panels(results, axes))}


def _drawn(name: str, panel: Panel) -> figure:
    """A tick at the median over the seeds of each row of the study's table, and a point for each run.

    The axis shows the range of the runs, as bars from 0 would make close scores look alike."""
    labels = _labels(list(panel.medians.index))
    reach: dict[str, Any] = {} if panel.runs.empty else {"x_range": _reach(panel.runs["score"])}
    rows = list(labels.values())[::-1]
    made = chart(name, panel.label, "", height=110 + 34 * len(labels), y_range=rows, **reach)
    medians = source_of(panel.medians.reset_index().assign(label=list(labels.values())))
    made.scatter("score", "label", source=medians, marker="dash", angle=math.pi / 2, size=24, color=BLUE, line_width=4)
    runs = panel.runs.reindex(columns=["row", "score", "cell", SEED], fill_value="")
    points = source_of(runs.astype({SEED: str}).assign(label=runs["row"].map(labels)))
    dots = made.scatter("score", "label", source=points, size=8, color=ORANGE, line_color=None)
    tips = [("", "@row"), ("seed", "@seed"), (panel.metric, "@score{0.0000}"), ("run", "@cell")]
    made.add_tools(HoverTool(tooltips=tips, renderers=[dots]))
    return made


def _reach(scores: pd.Series) -> tuple[float, float]:
    """The ends of the axis. Bokeh's own axis of a single score has the length 2."""
    low, high = float(scores.min()), float(scores.max())
    margin = 0.05 * (high - low) or 0.01
    return low - margin, high + margin


def _labels(names: Sequence[str]) -> dict[str, str]:
    """Name of a row -> its label on the axis: shortened, with a number before it where others have the same."""
    short = {name: shortened(name, _LONGEST) for name in names}
    several = {label for label in short.values() if list(short.values()).count(label) > 1}
    numbered = enumerate(short.items(), start=1)
    return {name: f"{number}: {label}" if label in several else label for number, (name, label) in numbered}
