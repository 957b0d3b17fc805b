"""Pictures of a search: ranks as the paper's Figure 3, alpha trajectories, losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from engine.ranks import RankRecord
from engine.ranks.layer_names import short_names
from engine.report.curves import SearchCurves, rank_colour, stretches
from engine.terminal.rank_table import rank_grid


def rank_map(record: RankRecord, path: Path) -> None:
    """Heat map of ranks: blocks of the model across, projections down (AutoLoRA Figure 3)."""
    blocks, projections, grid = rank_grid(record)
    values = np.array([[np.nan if r is None else r for r in row] for row in grid], dtype=float).T
    figure, axes = plt.subplots(
        figsize=(max(4.0, 0.55 * len(blocks) + 2.2), 0.55 * len(projections) + 1.5), layout="constrained"
    )
    image = axes.imshow(values, cmap="YlGnBu", vmin=0, vmax=record.k, aspect="auto")
    for (row, column), rank in np.ndenumerate(values):
        if np.isfinite(rank):
            dark = rank > 0.6 * record.k
            axes.text(column, row, f"{rank:.0f}", ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(blocks)), blocks)
    axes.set_yticks(range(len(projections)), projections)
    axes.set_xlabel("block")
    axes.set_title(f"ranks ({record.rule}), mean {record.mean_rank:.2f} of k = {record.k}")
    figure.colorbar(image, ax=axes, label="rank")
    save_figure(figure, path)


def alpha_trajectories(curves: SearchCurves, thresholds: Sequence[float] | None, path: Path) -> None:
    """alpha of every component over the steps, one panel a layer, with lambda dashed where there is one."""
    alpha, names = curves.alpha, short_names(curves.names)
    layers = alpha.shape[1]
    columns = min(4, layers)
    rows = -(-layers // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(3.2 * columns, 2.1 * rows + 0.4),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for index, axes in enumerate(panels.flat):
        if index >= layers:
            axes.set_visible(False)
            continue
        axes.plot(curves.steps, alpha[:, index], linewidth=1)
        if thresholds is not None:
            axes.axhline(thresholds[index], color="black", linestyle="--", linewidth=0.8)
        axes.set_title(names[index], fontsize=8)
    figure.supxlabel("step")
    figure.supylabel("alpha" if thresholds is None else "alpha (dashed: lambda)")
    save_figure(figure, path)


def rank_evolution(curves: SearchCurves, k: int, path: Path) -> None:
    """Heat map of the rank of every layer over the steps: layers down, steps across."""
    assert curves.ranks is not None
    figure, axes = plt.subplots(figsize=(7.2, 1.4 + 0.16 * len(curves.names)), layout="constrained")
    found = stretches(curves)
    for layer in range(len(curves.names)):
        own = [(start, end - start, rank_colour(rank, k)) for at, start, end, rank in found if at == layer]
        axes.broken_barh([part[:2] for part in own], (layer - 0.5, 1.0), facecolors=[part[2] for part in own])
    axes.set_yticks(range(len(curves.names)), short_names(curves.names), fontsize=7)
    axes.set_ylim(len(curves.names) - 0.5, -0.5)
    axes.set_xlabel("step")
    axes.set_title(f"rank of every layer over the steps, 0 to {k}", fontsize=9)
    save_figure(figure, path)


def losses(metrics: Sequence[dict[str, Any]], path: Path) -> None:
    """L_tr and L_val over the steps."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    steps = [line["step"] for line in metrics]
    for key, label in (("train_loss", "L_tr (D_tr)"), ("val_loss", "L_val (D_val)")):
        axes.plot(steps, [np.nan if line[key] is None else line[key] for line in metrics], label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Writes a PNG and frees the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
