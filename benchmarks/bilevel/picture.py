"""How far each approximation has come over the passes that it used."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autolora.engine.report.figures import plt, save_figure

Curves = Sequence[tuple[Sequence[int], Sequence[float]]]


def draw_progress(rows: Sequence[tuple[str, int, Curves]], path: Path) -> None:
    """Draws a panel for each number of inner steps. `rows`: name, inner steps, and for each seed passes and the part
    of the way; the mean over the seeds is drawn."""
    unrolls = list(dict.fromkeys(unroll for _, unroll, _ in rows))
    size = (4.2 * len(unrolls) + 1.8, 3.6)
    figure, panels = plt.subplots(1, len(unrolls), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, unroll in zip(panels.flat, unrolls, strict=True):
        for name, _, curves in (row for row in rows if row[1] == unroll):
            count = min(len(passes) for passes, _ in curves)
            mean = np.mean([closed[:count] for _, closed in curves], axis=0)
            axes.plot(curves[0][0][:count], 100 * mean, label=name)
        axes.set_title(f"{unroll} inner step{'s' if unroll > 1 else ''} an outer step")
        axes.set_xlabel("forward and backward passes")
        axes.axhline(100, color="grey", linewidth=0.6)
    panels.flat[0].set_ylabel("of the way to the best penalties, %")
    panels.flat[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)
