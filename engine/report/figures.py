"""The pictures of a run and of an adapter, apart from the rank map."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator

from autolora.configs.search import Constraint
from autolora.engine.ranks.record import thresholds
from autolora.engine.report.page import INK
from autolora.engine.search.searched import Trajectory
from autolora.problems.models.names import short_names

# Colours that are readable on white and on black.
BLUE = "#3b82c4"
ORANGE = "#e08214"
GREEN = "#2f9e6e"
PURPLE = "#a05195"
GREY = "#888888"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
WIDTH = 5.6
"""Inches of a picture that a telephone shows whole."""
MOST_PANELS = 60
"""With more layers a map has a row for each instead of a panel."""
MOST_POINTS = 16_000
"""Points of all lines of alpha together, so that the page stays small."""


def alpha(history: Trajectory, constraint: Constraint, *, bounded: bool) -> Figure:
    """alpha of every component over the search, a panel for each layer; with more than MOST_PANELS
    layers a map of how many components of each reach lambda. `bounded`: whether to draw lambda,
    which chose the ranks."""
    layers, k = history.alpha[0].shape
    if layers > MOST_PANELS:
        return _alpha_map(history, constraint)
    points = _spread(len(history.steps), max(12, MOST_POINTS // (layers * k)))
    steps = np.take(history.steps, points)
    values = np.stack([history.alpha[point] for point in points])
    bounds = thresholds(history.alpha[-1], constraint).flatten()
    columns = min(6, layers)
    rows = -(-layers // 6)
    height = 1.1 * rows + 0.5
    figure = Figure((max(WIDTH, 1.5 * columns), height))
    # Margins by hand: matplotlib's own layout of many panels takes seconds.
    room = {"left": 0.06, "right": 0.99, "bottom": 0.25 / height, "top": 1 - 0.25 / height}
    panels = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw={**room, "hspace": 0.35, "wspace": 0.08}
    ).flat
    margin = 0.05 * float(np.ptp(values)) + 1e-3
    for index, (axes, name) in enumerate(zip(panels, short_names(history.names), strict=False)):
        axes.plot(steps, values[:, index], linewidth=0.9, marker="o" if len(steps) == 1 else None)
        if bounded:
            axes.axhline(bounds[index], color=INK, linestyle="--", linewidth=0.7)
        axes.set_title(name, fontsize=7, pad=2)
        axes.set_ylim(values.min() - margin, values.max() + margin)
        axes.locator_params(nbins=3)
        axes.tick_params(
            labelleft=index % columns == 0, labelbottom=index + columns >= layers, labelsize=7
        )
    for axes in panels[layers:]:
        axes.remove()
    return figure


def _alpha_map(history: Trajectory, constraint: Constraint) -> Figure:
    reaching = history.ranks(constraint, _spread(len(history.steps), 200)).T
    layers = len(history.names)
    figure = Figure((WIDTH, 1 + 0.11 * layers), layout="constrained")
    axes = figure.add_subplot(xlabel="step")
    extent = (0, history.steps[-1], layers - 0.5, -0.5)
    shown = axes.imshow(
        reaching, aspect="auto", interpolation="none", extent=extent, cmap="YlGnBu", vmin=0
    )
    axes.set_yticks(range(layers), short_names(history.names), fontsize=6)
    figure.colorbar(shown, label="components whose alpha reaches lambda")
    return figure


def over_steps(
    points: Sequence[Mapping[str, Any]], labels: Mapping[str, str], scale: str = "linear"
) -> Figure | None:
    """Lines over the steps, for keys of the points that `labels` names; None if no point has one
    that is not 0."""
    table = pd.DataFrame(points).reindex(columns=["step", *labels]).astype(float)
    if not table[list(labels)].fillna(0).any(axis=None):  # first_order has no implicit term
        return None
    figure = Figure((WIDTH, 2.6), layout="constrained")
    axes = figure.add_subplot(xlabel="step", yscale=scale)
    for (key, label), colour in zip(labels.items(), COLOURS, strict=False):
        axes.plot(
            table["step"],
            table[key],
            color=colour,
            label=label,
            marker="o" if len(table) == 1 else None,
        )
    axes.yaxis.set_major_formatter("{x:g}")  # 10^-2 would be mathematical text, which is off
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.legend()
    return figure


def curve(cuts: pd.DataFrame, wanted: float) -> Figure:
    """What cuts keep of the gain, in percent with 90 % intervals, over the average rank.

    `cuts`: a row for each, with `cut`, `rank`, `kept`, `low`, `high`. Dashed: `wanted`, the part
    that is enough."""
    figure = Figure((WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot(xlabel="average rank", ylabel="kept of LoRA's gain, %", xscale="log")
    for (name, points), colour in zip(cuts.groupby("cut", sort=False), COLOURS, strict=False):
        kept = 100 * points["kept"]
        low = 100 * points["low"]
        high = 100 * points["high"]
        axes.errorbar(
            points["rank"],
            kept,
            [kept - low, high - kept],
            marker="o",
            capsize=3,
            color=colour,
            label=name,
        )
    axes.axhline(
        100 * wanted, color=GREY, linestyle="--", linewidth=1, label=f"enough: {100 * wanted:.1f} %"
    )
    ticks = sorted(set(cuts["rank"]))
    axes.set_xticks(ticks, [f"{rank:g}" for rank in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=min(0, 100 * cuts["kept"].min()) - 5)
    axes.legend(loc="lower right")
    return figure


def shares(layers: pd.DataFrame) -> Figure:
    """A bar with its 90 % interval for each layer, in the model's order.

    `layers`: a row for each, with `layer`, and `part`, `low`, `high` in parts of the sum of all
    shares."""
    share = 100 * layers["part"]
    low = 100 * layers["low"]
    high = 100 * layers["high"]
    figure = Figure((WIDTH, 0.7 + 0.17 * len(layers)), layout="constrained")
    axes = figure.add_subplot(xlabel="share of what LoRA gains, %")
    axes.barh(layers["layer"], share, xerr=[share - low, high - share], color=BLUE, ecolor=ORANGE)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    return figure


def pairs(arms: Sequence[Mapping[str, Any]], interval: Sequence[float] | None) -> Figure:
    """The loss of each arm of a verdict minus that of the first, the learned ranks, a point for
    each pair, and the 95 % `interval` of the mean of the second. `arms`: those of verdict.json."""
    figure = Figure((WIDTH, 2.8), layout="constrained")
    axes = figure.add_subplot(xlabel="pair", ylabel="loss above learned, nats")
    axes.axhline(0, color=GREY, linewidth=0.8)
    if interval is not None:
        axes.axhspan(
            *interval, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval of the mean"
        )
    learned = np.array(arms[0]["losses"])
    for arm, colour in zip(arms[1:], COLOURS, strict=False):
        axes.plot(
            range(1, len(learned) + 1),
            arm["losses"] - learned,
            "o",
            color=colour,
            label=arm["name"],
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def _spread(count: int, most: int) -> list[int]:
    """At most so many places of `count`, with the first and the last."""
    found: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return found
