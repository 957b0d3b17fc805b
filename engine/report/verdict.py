"""The result of --stage verdict for the page: a sentence, a table of the arms, and a chart of all pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from bokeh.models import HoverTool
from bokeh.models.annotations import BoxAnnotation, Span
from bokeh.models.tickers import BasicTicker
from bokeh.plotting import figure
from matplotlib.ticker import MaxNLocator

from autolora.engine.report.charts import BLUE, GREEN, GREY, ORANGE, chart, legend_below, source_of
from autolora.engine.report.figures import save_figure
from autolora.engine.report.words import mean_of_arms, signed
from autolora.engine.run.contents import read_verdict
from autolora.engine.run.folder import RunFolder

COLOURS = (BLUE, ORANGE, GREEN)
"""Colours of the shuffle, and of the arms that verdict.arms adds."""


@dataclass(frozen=True)
class VerdictShown:
    """The verdict as the page shows it.

    `lines`: the notes, and what to do with these ranks. `differences`: arm ->
    its loss minus that of the learned ranks, for each pair that trained the arm; empty if no pair was trained.
    `interval`: the 95 % interval of the mean difference between the shuffle and the learned ranks; None for fewer than
    two pairs. `table`: column names, and a row for each arm."""

    sentence: str
    lines: list[str]
    differences: dict[str, np.ndarray]
    interval: tuple[float, float] | None
    table: tuple[list[str], list[list[str]]]


def verdict_of(folder: RunFolder) -> VerdictShown | None:
    """The verdict of a run; None if it has none. Raises UserError if verdict.json is damaged."""
    found = read_verdict(folder.verdict_summary)
    if not found:
        return None
    arms = found.get("arms", [])
    learned = np.array(arms[0]["losses"]) if arms else np.array([])
    differences = {arm["name"]: np.array(arm["losses"]) - learned[: len(arm["losses"])] for arm in arms[1:]}
    interval = tuple(found["interval"]) if found.get("interval") else None
    lines = [*found.get("notes", []), found["recommendation"]]
    columns = ["ranks", "mean loss", found.get("metric", ""), "LoRA parameters", "loss above learned", "95 % interval"]
    return VerdictShown(found["sentence"], lines, differences, interval, (columns, _rows(arms)))


def _rows(arms: Sequence[dict[str, Any]]) -> list[list[str]]:
    losses, scores = mean_of_arms(arms, "losses"), mean_of_arms(arms, "scores")
    return [_row(*one) for one in zip(arms, losses, scores, strict=True)]


def _row(arm: dict[str, Any], loss: str, score: str) -> list[str]:
    behind, interval = arm.get("difference"), arm.get("interval")
    return [
        arm["name"],
        loss,
        score,
        f"{arm['parameters']:,}",
        "" if behind is None else signed(behind),
        "" if interval is None else f"{signed(interval[0])} to {signed(interval[1])}",
    ]


def verdict_chart(verdict: VerdictShown | None) -> dict[str, figure]:
    """The chart, with the id of its element of the page as its key: a point for each pair and arm.

    Above 0 the learned ranks were better. The band is the 95 % interval of the mean difference to the shuffle."""
    if verdict is None or not verdict.differences:
        return {}
    made = chart("verdict", "pair", "loss above learned, nats", height=280, y_range=_with_zero(verdict))
    made.add_layout(Span(location=0, dimension="width", line_color=GREY, line_width=1))
    if verdict.interval is not None:
        low, high = verdict.interval
        band = BoxAnnotation(bottom=low, top=high, name="interval", fill_color=BLUE, fill_alpha=0.15)
        band.line_color = None
        made.add_layout(band)
    drawn: dict[str, list[Any]] = {}
    for (name, values), colour in zip(verdict.differences.items(), COLOURS, strict=False):
        told = [signed(value) for value in values]
        table = pd.DataFrame({"pair": range(1, len(values) + 1), "difference": values, "told": told})
        drawn[name] = [made.scatter("pair", "difference", source=source_of(table), size=8, color=colour)]
    if len(drawn) > 1:
        legend_below(made, drawn)
    made.xaxis.ticker = BasicTicker(min_interval=1)
    made.add_tools(HoverTool(tooltips=[("pair", "@pair"), ("loss above learned", "@told")]))
    return {"verdict": made}


def _with_zero(verdict: VerdictShown) -> tuple[float, float]:
    """The range of all points, the interval and 0: a point says something by the side of 0 on which it lies."""
    shown = np.concatenate([[0.0], verdict.interval or (), *verdict.differences.values()])
    pad = 0.06 * float(np.ptp(shown)) or 1e-3
    return float(shown.min()) - pad, float(shown.max()) + pad


def draw_verdict(verdict: VerdictShown | None, folder: Path) -> dict[str, Path]:
    """Draws the chart as a picture, for browsers that run no scripts and for wandb; returns its path by name."""
    if verdict is None or not verdict.differences:
        return {}
    made, axes = plt.subplots(figsize=(7.2, 3), layout="constrained")
    axes.axhline(0, color=GREY, linewidth=0.8)
    if verdict.interval is not None:
        axes.axhspan(*verdict.interval, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval of the mean")
    for (name, values), colour in zip(verdict.differences.items(), COLOURS, strict=False):
        axes.plot(range(1, len(values) + 1), values, "o", markersize=5, color=colour, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("pair")
    axes.set_ylabel("loss above learned, nats")
    axes.legend(frameon=False, fontsize=8)
    path = folder / "verdict.png"
    save_figure(made, path)
    return {"verdict": path}
