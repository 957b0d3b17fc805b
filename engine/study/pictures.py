"""Which pictures a study has: the metric of each row, learned ranks, and the comparison of hypergradients."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autolora.engine import ranks
from autolora.engine.ranks.picture import save_picture
from autolora.engine.run.folder import RunFolder
from autolora.engine.study import figures
from autolora.engine.study.comparison import Comparison
from autolora.engine.study.descent import TaskDescents, count_of_approximations, descents
from autolora.engine.study.descent_figure import outer_loss_over_passes
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.rows import APPROXIMATION, OUTER, TASK

PASSES = "outer_loss_over_passes"
TITLES = {
    PASSES: "The loss on D_val over the passes used so far",
    "cosine_over_training": "Cosine to the exact one-step unroll (Eq. 4) over training",
    "outer_loss_against_cost": "What the search reaches: L_val against the cost of an outer step",
    "metric_against_cost": "Metric of the retrained model against the cost of an outer step",
}
"""Name of a picture -> its title on the page; the others are called like their names."""
NOTES = {
    PASSES: (
        "How fast each search lowers the loss of its minibatches of D_val, a line for each row of the table. The loss "
        "has no fitted temperature: it rises where a model becomes over-confident, which L_val in the tables leaves "
        "out. Passes do not depend on the device, but those of second derivatives take longer. Smoothed: each point "
        "is the mean over the last logged steps up to there, a tenth of the search's (at least three). A line is the "
        "mean over the seeds in the title, which all lines have, and ends where the first of its searches ended. "
        "Band: the standard error of the mean, without what lifts or lowers all lines of a seed alike. A search that "
        "was copied, or that takes no outer step, has no line."
    )
}
"""Name of a picture -> what stands above it on the page."""


def draw(
    results: pd.DataFrame, axes: Sequence[str], comparison: Comparison | None, folder: StudyFolder
) -> dict[str, Path]:
    """Draws the pictures of the study into its folder; returns their paths by name."""
    pictures = {"metric": folder.figures / "metric.png", **_rank_maps(results, folder)}
    figures.metric_by_row(results, axes, pictures["metric"])
    if tasks := _descents(results, axes, folder):
        pictures[PASSES] = folder.figures / "passes.png"
        outer_loss_over_passes(tasks, pictures[PASSES])
    if comparison is not None:
        pictures["cosine_over_training"] = folder.figures / "cosine.png"
        figures.cosine_over_training(comparison.probe, pictures["cosine_over_training"])
        pictures |= _cost_pictures(results, axes, comparison.cost, folder)
    return pictures


def _rank_maps(results: pd.DataFrame, folder: StudyFolder) -> dict[str, Path]:
    """Draws for each task the learned ranks of its first run, as the paper's Figure 3; none if approximations are
    compared."""
    learned = results[results["method"] == "autolora"]
    if APPROXIMATION in results or learned.empty:
        return {}
    pictures: dict[str, Path] = {}
    for task, cells in learned.groupby(TASK, sort=False)["cell"]:
        name = f"ranks_{re.sub(r'[^A-Za-z0-9_-]+', '-', str(task))}"
        path = folder.figures / f"{name}.png"
        if path in pictures.values():  # names in other alphabets, or that differ only in signs
            path = folder.figures / f"{name}_{len(pictures) + 1}.png"
        save_picture(ranks.load(RunFolder(folder.cells / cells.iloc[0]).ranks), path)
        pictures[f"ranks of {task}: {cells.iloc[0]}"] = path
    return pictures


def _descents(results: pd.DataFrame, axes: Sequence[str], folder: StudyFolder) -> list[TaskDescents]:
    """What the picture of L_val over the passes shows; empty if the study compares no approximations."""
    compares = APPROXIMATION in results or count_of_approximations(results) > 1
    return descents(results, axes, folder) if compares else []


def _cost_pictures(
    results: pd.DataFrame, axes: Sequence[str], cost: pd.DataFrame, folder: StudyFolder
) -> dict[str, Path]:  # fmt: skip
    """Draws what the runs of each approximation reached against the cost of its outer step; none if no approximation
    of the study was timed, or if all searches of a study without the axis hypergradient.type used one."""
    timed = figures.timed(results, cost)
    pictures: dict[str, Path] = {}
    if APPROXIMATION not in results and timed[figures.COST].nunique() < 2:
        return pictures
    if OUTER in timed and timed[OUTER].notna().any():
        pictures["outer_loss_against_cost"] = folder.figures / "outer_loss.png"
        figures.outer_loss_against_cost(results, axes, cost, pictures["outer_loss_against_cost"])
    if not timed.empty:
        pictures["metric_against_cost"] = folder.figures / "cost.png"
        figures.metric_against_cost(timed, axes, cost, pictures["metric_against_cost"])
    return pictures
