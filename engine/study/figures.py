"""Pictures of a study of approximations: metric against cost, cosine to the exact hypergradient over training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from engine.report.figures import save_figure
from engine.study.tables import TASK, labelled


def metric_by_row(results: pd.DataFrame, axes: Sequence[str], path: Path) -> None:
    """A panel for each task: a bar for the median over the seeds of each row, a point for each run."""
    tasks = list(labelled(results, axes).groupby(TASK, sort=False))
    rows = max(cells["row"].nunique() for _, cells in tasks)
    figure, panels = plt.subplots(
        len(tasks), 1, figsize=(7.2, len(tasks) * (1.2 + 0.36 * rows)), squeeze=False, layout="constrained"
    )
    for panel, (task, cells) in zip(panels.flat, tasks, strict=True):
        groups = list(cells.groupby("row", sort=False)["score"])
        for row, (_, scores) in enumerate(groups):
            panel.barh(row, scores.median(), height=0.7, color="#3b82c4", alpha=0.45)
            panel.plot(scores, [row] * len(scores), "o", markersize=5, color="#e08214")
        panel.set_yticks(range(len(groups)), [str(name) for name, _ in groups])
        panel.invert_yaxis()
        panel.set_xlabel(f"{cells['main_metric'].iloc[0]}, {task}")
    save_figure(figure, path)


def cosine_over_training(probe: pd.DataFrame, path: Path) -> None:
    """Cosine of each approximation's implicit term to the exact one, a panel per eta."""
    etas = list(dict.fromkeys(probe["eta"]))
    figure, panels = plt.subplots(
        1, len(etas), figsize=(3.6 * len(etas) + 1.6, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, eta in zip(panels.flat, etas, strict=True):
        for name, rows in probe[(probe["eta"] == eta) & (probe["approximation"] != "first_order")].groupby(
            "approximation", sort=False
        ):
            axes.plot(rows["step"], rows["cosine"], marker="o", markersize=4, label=name)
        axes.set_title(f"eta = {eta}")
        axes.set_xlabel("search step")
    panels.flat[0].set_ylabel("cosine to the exact term")
    panels.flat[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)


def metric_against_cost(results: pd.DataFrame, cost: pd.DataFrame, metric: str, path: Path) -> None:
    """Median and range of the final metric over seeds against the cost of a search step."""
    ratio = cost.set_index("approximation")["ratio_to_lora"]
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for name, rows in results.groupby("hypergradient.type", sort=False):
        values = rows[metric]
        median = values.median()
        axes.errorbar(
            ratio[name],
            median,
            yerr=[[median - values.min()], [values.max() - median]],
            marker="o",
            capsize=3,
            label=str(name),
        )
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_xlabel("seconds of one search step / one plain LoRA step")
    axes.set_ylabel(metric.removeprefix("metric."))
    save_figure(figure, path)
