"""The pictures of a run and of an adapter, apart from the rank map."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from autolora.configs.search import Constraint
from autolora.engine.ranks.record import thresholds
from autolora.engine.report.page import INK
from autolora.engine.search.trajectory import Trajectory
from autolora.problems.models.names import short_names

# Colours that are readable on white and on black.
BLUE, ORANGE, GREEN, PURPLE, GREY = COLOURS = "#3b82c4", "#e08214", "#2f9e6e", "#a05195", "#888888"
WIDTH = 5.6
"""Inches of a picture that a telephone shows whole."""
MOST_PANELS = 60
"""With more layers a map has a row for each instead of a panel."""
MOST_POINTS = 16_000
"""Points of all lines of alpha together, so that the page stays small."""


def alpha(history: Trajectory, constraint: Constraint, *, bounded: bool) -> Figure:
    """alpha of every component over the search, a panel for each layer; with more than MOST_PANELS layers a map of how
    many components of each reach lambda. `bounded`: whether to draw lambda, which chose the ranks."""
    layers, k = history.alpha[0].shape
    if layers > MOST_PANELS:
        return _alpha_map(history, constraint)
    points = _spread(len(history.steps), max(12, MOST_POINTS // (layers * k)))
    steps, values = np.take(history.steps, points), np.stack([history.alpha[point] for point in points])
    bounds = thresholds(history.alpha[-1], constraint).flatten()
    columns, rows = min(6, layers), -(-layers // 6)
    width, height = max(WIDTH, 1.5 * columns), 1.1 * rows + 0.5
    figure = Figure((width, height))
    # Margins in inches, and no shared axes: matplotlib's own layout of many panels takes seconds.
    room = {"left": 0.5 / width, "right": 1 - 0.1 / width, "bottom": 0.45 / height, "top": 1 - 0.25 / height}
    panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw={**room, "wspace": 0.08, "hspace": 0.3})
    low, high = float(values.min()), float(values.max())
    for index, (axes, name) in enumerate(zip(panels.flat, short_names(history.names), strict=False)):
        axes.plot(steps, values[:, index], linewidth=0.9, marker="o" if len(steps) == 1 else None)
        if bounded:
            axes.axhline(bounds[index], color=INK, linestyle="--", linewidth=0.7)
        axes.set_title(name, fontsize=7, pad=2)
        axes.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
        axes.locator_params(nbins=3)
        axes.tick_params(labelleft=index % columns == 0, labelbottom=index + columns >= layers, labelsize=7)
    for axes in panels.flat[layers:]:
        axes.remove()
    figure.supxlabel("step", fontsize=8, y=0.06 / height)
    return figure


def _alpha_map(history: Trajectory, constraint: Constraint) -> Figure:
    points = _spread(len(history.steps), 200)
    reaching, layers = history.ranks(constraint, points).T, len(history.names)
    figure = Figure((WIDTH, 1 + 0.11 * min(layers, 150)), layout="constrained")
    axes = figure.add_subplot(xlabel="step")
    extent = (0, history.steps[-1], layers - 0.5, -0.5)
    shown = axes.imshow(reaching, aspect="auto", interpolation="none", extent=extent, cmap="YlGnBu", vmin=0)
    named = range(0, layers, -(-layers // 100))
    axes.set_yticks(named, short_names(history.names)[:: named.step], fontsize=6)
    figure.colorbar(shown, label="components whose alpha reaches lambda")
    return figure


def over_steps(points: Sequence[Mapping[str, Any]], labels: Mapping[str, str], scale: str = "linear") -> Figure | None:
    """Lines over the steps, for keys of the points that `labels` names; None if no point has such a number."""
    table = pd.DataFrame(points).reindex(columns=["step", *labels]).astype(float)
    if table[list(labels)].isna().all(axis=None):
        return None
    figure = Figure((WIDTH, 2.6), layout="constrained")
    axes = figure.add_subplot(xlabel="step", yscale=scale)
    for (key, label), colour in zip(labels.items(), COLOURS, strict=False):
        axes.plot(table["step"], table[key], color=colour, label=label, marker="o" if len(table) == 1 else None)
    axes.yaxis.set_major_formatter("{x:g}")  # 10^-2 would be mathematical text, which is off
    axes.legend()
    return figure


def curve(cuts: pd.DataFrame, wanted: float, taken: float | None = None) -> Figure:
    """What cuts keep of the gain, in percent with 90 % intervals, over the average rank.

    `cuts`: a row for each cut, with `cut`, `rank`, `kept`, `low`, `high`. Dashed: `wanted`, the part that is enough.
    Dotted: `taken`, the average rank that was taken."""
    figure = Figure((WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot(xlabel="average rank", ylabel="kept of LoRA's gain, %", xscale="log")
    for (name, points), colour in zip(cuts.groupby("cut", sort=False), COLOURS, strict=False):
        kept, low, high = (100 * points[column] for column in ("kept", "low", "high"))
        axes.errorbar(points["rank"], kept, [kept - low, high - kept], marker="o", capsize=3, color=colour, label=name)
    axes.axhline(100 * wanted, color=GREY, linestyle="--", linewidth=1, label=f"enough: {100 * wanted:.1f} %")
    if taken:
        axes.axvline(taken, color=GREY, linestyle=":", linewidth=1.5, label="the ranks that were taken")
    ticks = sorted(set(cuts["rank"]))
    axes.set_xticks(ticks, [f"{rank:g}" for rank in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=min(0, 100 * cuts["kept"].min()) - 5)
    axes.legend(loc="lower right")
    return figure


def shares(layers: pd.DataFrame, unit: str) -> Figure:
    """A bar with its 90 % interval for each layer, in the model's order; pale: a share that is not above noise.

    `layers`: a row for each, with `name`, `share`, `low`, `high` in `unit`, and `seen`."""
    count = len(layers)
    figure = Figure((WIDTH, 0.7 + 0.17 * min(count, 120)), layout="constrained")
    axes = figure.add_subplot(xlabel=f"share of what LoRA gains, {unit}", ylim=(count - 0.5, -0.5))
    bars = axes.barh(range(count), layers["share"], color=BLUE)
    for bar, seen in zip(bars, layers["seen"], strict=True):
        bar.set_alpha(0.8 if seen else 0.25)
    reach = [layers["share"] - layers["low"], layers["high"] - layers["share"]]
    axes.errorbar(layers["share"], range(count), xerr=reach, fmt="none", ecolor=ORANGE, elinewidth=1.2)
    axes.axvline(0, color=GREY, linewidth=0.8)
    named = range(0, count, -(-count // 120))
    axes.set_yticks(named, layers["name"][:: named.step], fontsize=7)
    return figure


def pairs(arms: Sequence[Mapping[str, Any]], interval: Sequence[float] | None) -> Figure:
    """The loss of each arm of a verdict minus that of the first, the learned ranks, a point for each pair, and the
    95 % `interval` of the mean of the second. `arms`: those of verdict.json."""
    figure = Figure((WIDTH, 2.8), layout="constrained")
    axes: Axes = figure.add_subplot(xlabel="pair", ylabel="loss above learned, nats")
    axes.axhline(0, color=GREY, linewidth=0.8)
    if interval is not None:
        axes.axhspan(*interval, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval of the mean")
    for arm, colour in zip(arms[1:], COLOURS, strict=False):
        above = [loss - learned for loss, learned in zip(arm["losses"], arms[0]["losses"], strict=False)]
        axes.plot(range(1, len(above) + 1), above, "o", markersize=5, color=colour, label=arm["name"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def _spread(count: int, most: int) -> list[int]:
    """At most so many places of `count`, with the first and the last."""
    found: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return found
