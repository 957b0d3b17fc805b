"""Pictures of a search, apart from its rank map: alpha trajectories, ranks over the steps, losses."""

from collections.abc import Mapping, Sequence, Sized
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from autolora.engine.ranks.grid import short_names
from autolora.engine.ranks.picture import rank_colour
from autolora.engine.report.curves import SearchCurves, stretches

# Otherwise matplotlib would read a name that contains `$` (a path, a variant) as a formula.
plt.rcParams["text.parse_math"] = False


def alpha_trajectories(curves: SearchCurves, path: Path) -> None:
    """Draws alpha of every component over the steps, a panel per layer; a dashed lambda if it decides the ranks."""
    layers = len(curves.names)
    columns = min(4, layers)
    rows = -(-layers // columns)
    width, height = 3.2 * columns, 2.1 * rows + 0.4
    # Margins are given in inches, as matplotlib's automatic layout would take longer than the drawing.
    margins = {"left": 0.7 / width, "right": 1 - 0.1 / width, "bottom": 0.55 / height, "top": 1 - 0.3 / height}
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(width, height),
        squeeze=False,
        gridspec_kw={**margins, "wspace": 0.06, "hspace": 0.18},
    )
    for axes in panels.flat[layers:]:
        axes.remove()
    lowest, highest = curves.alpha_limits
    for index, (axes, name) in enumerate(zip(panels.flat, short_names(curves.names), strict=False)):
        axes.plot(curves.steps, curves.alpha[:, index], linewidth=1, marker=_marker(curves.steps))
        if curves.bounds is not None:
            axes.axhline(curves.bounds[index], color="black", linestyle="--", linewidth=0.8)
        axes.set_title(name, fontsize=8)
        # Each panel gets the same limits explicitly, as shared axes are slow: each tick consults all panels.
        if len(curves.steps) > 1:
            axes.set_xlim(curves.steps[0], curves.steps[-1])
        axes.set_ylim(lowest, highest)
        axes.tick_params(labelleft=index % columns == 0, labelbottom=index + columns >= layers)
    figure.supxlabel("step", y=0.08 / height)
    figure.supylabel("alpha" if curves.bounds is None else "alpha (dashed: lambda)", x=0.1 / width)
    save_figure(figure, path)


def rank_evolution(curves: SearchCurves, k: int, path: Path) -> None:
    """Draws a heat map of the rank of every layer over the steps: a row per layer, steps from left to right."""
    layers = len(curves.names)
    figure, axes = plt.subplots(figsize=(7.2, 1.4 + 0.16 * layers), layout="constrained")
    for layer, found in groupby(stretches(curves), key=itemgetter(0)):
        own = list(found)
        colours = [rank_colour(rank, k) for *_, rank in own]
        axes.broken_barh([(start, end - start) for _, start, end, _ in own], (layer - 0.5, 1.0), facecolors=colours)
    axes.set_yticks(range(layers), short_names(curves.names), fontsize=7)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_xlabel("step")
    axes.set_title(f"rank of every layer over the steps, 0 to {k}", fontsize=9)
    save_figure(figure, path)


OF_SEARCH = {"train_loss": "L_tr (D_tr)", "val_loss": "L_val (D_val)"}


def losses(metrics: Sequence[dict[str, Any]], path: Path, labels: Mapping[str, str] = OF_SEARCH) -> None:
    """Draws losses over the steps. `labels`: key in a line of `metrics` -> label; default: the losses of a search."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    table = pd.DataFrame(metrics).reindex(columns=["step", *labels])
    for key, label in labels.items():
        axes.plot(table["step"], table[key].astype(float), label=label, marker=_marker(table))
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    save_figure(figure, path)


def _marker(points: Sized) -> str | None:
    """A marker for a single point, which draws no line; else None."""
    return "o" if len(points) == 1 else None


def save_figure(figure: Any, path: Path) -> None:
    """Writes a PNG and frees the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
