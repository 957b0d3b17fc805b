"""The picture of how the outer loss fell over the passes, a line for each row of the study's table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from autolora.configs.count_words import counted
from autolora.engine.report.figures import save_figure
from autolora.engine.study.descent import TaskDescents
from autolora.engine.study.figures import COLOURS, STYLES, legend_beside
from autolora.engine.study.rows import shortened

MOST_SEEDS = 8
"""More seeds than this are counted in a title, not listed."""


def outer_loss_over_passes(tasks: Sequence[TaskDescents], path: Path) -> None:
    """Draws a panel for each task: the smoothed loss on minibatches of D_val over the passes so far, with a band of
    its standard error."""
    size = (8.8, 4.0 * len(tasks))
    figure, drawn = plt.subplots(len(tasks), 1, figsize=size, squeeze=False, layout="constrained")
    for place, task in zip(drawn.flat, tasks, strict=True):
        for number, (row, line) in enumerate(task.lines.items()):
            look: dict[str, Any] = {"linestyle": STYLES[number // COLOURS % len(STYLES)], "linewidth": 1.4}
            marker = "o" if len(line.passes) == 1 else None  # a single point draws no line
            (curve,) = place.plot(line.passes, line.loss, marker=marker, label=shortened(row), **look)
            if line.error is not None:
                low, high = line.loss - line.error, line.loss + line.error
                place.fill_between(line.passes, low, high, color=curve.get_color(), alpha=0.15, linewidth=0)
        place.set_title(f"{task.task}{_of_seeds(task)}", fontsize=10)
        place.set_xlabel("forward + backward passes so far")
        place.set_ylabel("loss on minibatches of D_val, smoothed")
        place.grid(linewidth=0.3)
        legend_beside(place)
    save_figure(figure, path)


def _of_seeds(task: TaskDescents) -> str:
    """Behind the name of a task: over which seeds its lines are means."""
    if task.seeds is None:
        return ""
    if len(task.seeds) > MOST_SEEDS:
        return f", mean over {counted(len(task.seeds), 'seed')}"
    seeds = ", ".join(map(str, task.seeds))
    several = f", mean over the seeds {seeds}" if seeds else ", each line over its own seeds"
    return f", seed {seeds}" if len(task.seeds) == 1 else several
