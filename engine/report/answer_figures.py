"""Pictures of the answer (shares and curve), for browsers that run no scripts and for wandb."""

from pathlib import Path

import matplotlib.pyplot as plt

from autolora.engine.report.answer import KEPT_AXIS, Answer, share_axis
from autolora.engine.report.answer_charts import OPAQUE, PALE, rank_ticks
from autolora.engine.report.charts import BLUE, GREY, ORANGE
from autolora.engine.report.figures import save_figure

MOST_ROWS = 110
"""Up to this many layers, more layers make the picture taller; beyond, bars become thinner and not all are named."""


def draw_answer(answer: Answer | None, folder: Path) -> dict[str, Path]:
    """Draws the figures for which the answer has data; returns their paths by name."""
    made = {}
    if answer is not None and len(answer.shares):
        made["shares"] = folder / "shares.png"
        shares(answer, made["shares"])
    if answer is not None and answer.curve:
        made["curve"] = folder / "curve.png"
        curve(answer, made["curve"])
    return made


def shares(answer: Answer, path: Path) -> None:
    """Draws a bar with its 90 % interval for each layer, in the model's order; a share not above noise is pale."""
    found, count = answer.shares, len(answer.shares)
    figure, axes = plt.subplots(figsize=(7.2, 1.2 + 0.2 * min(count, MOST_ROWS)), layout="constrained")
    bars = axes.barh(range(count), found["share"], height=0.7, color=BLUE)
    for bar, seen in zip(bars, found["seen"], strict=True):
        bar.set_alpha(OPAQUE if seen else PALE)
    errors = [found["share"] - found["low"], found["high"] - found["share"]]
    axes.errorbar(found["share"], range(count), xerr=errors, fmt="none", ecolor=ORANGE, elinewidth=1.5)
    axes.axvline(0, color=GREY, linewidth=0.8)
    named = range(0, count, -(-count // MOST_ROWS))
    axes.set_yticks(named, list(found["short"])[:: named.step], fontsize=7)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlabel(share_axis(answer))
    axes.set_title("bars: shares with 90 % intervals; pale bars: not above noise", fontsize=9)
    save_figure(figure, path)


def curve(answer: Answer, path: Path) -> None:
    """Draws the kept part of the gain, in percent, against LoRA parameters, with 90 % bands.

    Dashed: the part that is enough. Dotted: the parameters of the recorded ranks."""
    figure, axes = plt.subplots(figsize=(7.2, 4), layout="constrained")
    for (label, cuts), colour in zip(answer.curve.items(), (BLUE, ORANGE), strict=False):
        axes.fill_between(cuts["parameters"], cuts["low"], cuts["high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(cuts["parameters"], cuts["kept"], marker="o", markersize=4, color=colour, label=label)
    axes.axhline(answer.wanted, color=GREY, linestyle="--", linewidth=1, label=f"enough: {answer.wanted:g} %")
    if answer.parameters:
        axes.axvline(answer.parameters, color=GREY, linestyle=":", linewidth=1, label="the ranks that were taken")
    axes.set_xscale("log")
    ticks = rank_ticks(answer)
    axes.set_xticks(list(ticks), list(ticks.values()), fontsize=8)
    axes.set_xticks([], minor=True)
    axes.set_ylim(-5, max(106.0, *(cuts["high"].max() + 4 for cuts in answer.curve.values())))
    axes.set_xlabel("LoRA parameters")
    axes.set_ylabel(KEPT_AXIS)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
