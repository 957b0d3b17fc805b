"""Table 1 as a picture: the loss of each line against its LoRA parameters, a panel for each task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.engine.report.figures import plt, save_figure
from autolora.engine.study.rows import LOSS, TASK
from benchmarks.table1.contrasts import HEAD
from benchmarks.table1.runs import VARIANT

SERIES: Mapping[str, tuple[str, ...]] = {
    "equal ranks (1, 2, 4, 8)": ("rank 1", "rank 2", "rank 4", "rank 8"),
    "ranks by shares (budgets 0.25 to 4)": ("shares 0.25", "shares 0.5", "shares 1", "shares 4"),
    "their shuffle": ("0.25 shuffled", "0.5 shuffled", "1 shuffled", "4 shuffled"),
    "PARA": ("para 0.25", "para 0.5", "para"),
    "the paper's threshold": ("threshold",),
    "its shuffle": ("threshold shuffled",),
    "EVA": ("eva",),
    "AdaLoRA": ("adalora",),
    "random ranks": ("random 1",),
    "lora_modules": ("lora_modules",),
    "Optuna": ("optuna",),
}
"""Label -> the lines of the table that belong together, by size. Lines without LoRA are not drawn."""
_MARKS = "osDP*XvhpH8"
_COLOURS = (*(f"C{number}" for number in range(10)), "black")
_WIDTH, _HEIGHT = 4.8, 3.6


def draw_losses(table: pd.DataFrame, path: Path) -> None:
    """Draws mean and standard error over the seeds. Less is better. The loss of the head alone stands in the title."""
    tasks = list(table.groupby(TASK, sort=False))
    columns = min(2, len(tasks))
    rows = -(-len(tasks) // columns)
    size = (_WIDTH * columns, _HEIGHT * rows + 1.2)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in panels.flat[len(tasks) :]:
        axes.set_visible(False)
    for axes, (task, runs) in zip(panels.flat[: len(tasks)], tasks, strict=True):
        for (label, lines), mark, colour in zip(SERIES.items(), _MARKS, _COLOURS, strict=True):
            _draw_series(axes, runs, lines, {"label": label, "marker": mark, "color": colour})
        head = runs.loc[runs[VARIANT] == HEAD, LOSS].mean()
        axes.set_title(f"{task} (head alone: {head:.3f})" if head == head else str(task))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")  # figures here write no mathematical text, as 10^4 would be
        axes.set_xlabel("LoRA parameters")
    for axes in panels[:, 0]:
        axes.set_ylabel("log loss, nats a label (less is better)")
    handles, labels = _known_series(list(panels.flat))
    figure.legend(handles, labels, loc="outside lower center", ncols=2 * columns, frameon=False, fontsize=8)
    save_figure(figure, path)


def _draw_series(axes: Any, runs: pd.DataFrame, lines: Sequence[str], look: Mapping[str, str]) -> None:
    """A point with an error bar for each line that has runs; a line of the picture joins those of several sizes."""
    by_line = runs[runs[VARIANT].isin(lines)].groupby(VARIANT)
    found = by_line.agg(size=("lora_parameters", "mean"), loss=(LOSS, "mean"), error=(LOSS, "sem"))
    found = found.sort_values("size").fillna({"error": 0.0})
    if len(found):
        joined = "-" if len(lines) > 1 else "none"
        axes.errorbar(
            found["size"], found["loss"], yerr=found["error"], linestyle=joined, markersize=5, capsize=2, linewidth=1,
            **look,
        )  # fmt: skip


def _known_series(panels: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Handles and labels of the series that any panel has, in the order of SERIES."""
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True)) | found
    known = [label for label in SERIES if label in found]
    return [found[label] for label in known], known
