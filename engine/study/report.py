"""What a study says: one table (Markdown and parquet), figures, and one self-contained page."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd

from configs.schema import RunConfig
from engine import ranks
from engine.disk.files import write_text
from engine.ranks.picture import save_picture
from engine.report.page import inline_image, render
from engine.run.folder import RunFolder
from engine.study import figures as study_figures
from engine.study import tables as study_tables
from engine.study.agreement import between_approximations, between_seeds
from engine.study.cells import VARIANT
from engine.study.charts import metric_charts
from engine.study.folder import StudyFolder
from engine.study.summary import APPROXIMATION, main_metric, rows_of, summarise

TITLES = {
    "cosine_over_training": "Cosine to the exact hypergradient over training",
    "metric_against_cost": "Metric against the cost of a step",
}


def write_study_report(config: RunConfig, folder: StudyFolder) -> dict[str, Path]:
    """table.md, summary.parquet, figures/ and report.html from the study's parquet files; returns the figures."""
    results = pd.read_parquet(folder.results)
    axes = [*config.study.axes, *([VARIANT] if config.study.variants else [])]
    tables = {**paper_tables(results, axes), "Results": summarise(results, axes)}
    pictures = {"metric": folder.figures / "metric.png", **rank_maps(results, folder)}
    study_figures.metric_by_row(results, axes, pictures["metric"])
    # A kill may have come between the two.
    if folder.probe.exists() and folder.cost.exists():
        probe, cost = pd.read_parquet(folder.probe), pd.read_parquet(folder.cost)
        tables["Distance to the exact hypergradient, mean over the probed steps"] = closeness(probe)
        tables["Cost of one step (inner and outer)"] = cost.round(3)
        pictures["cosine_over_training"] = folder.figures / "cosine.png"
        study_figures.cosine_over_training(probe, pictures["cosine_over_training"])
        if APPROXIMATION in results:
            pictures["metric_against_cost"] = folder.figures / "cost.png"
            study_figures.metric_against_cost(results, cost, main_metric(results), pictures["metric_against_cost"])
    if APPROXIMATION in results and results[APPROXIMATION].nunique() > 1:
        tables["Agreement of the final ranks (Spearman, mean over seeds)"] = between_approximations(results, axes)
    tables["Results"].to_parquet(folder.summary, index=False)
    sentence = _sentence(results, config)
    sections = "\n".join(f"## {title}\n\n{markdown(table)}" for title, table in tables.items())
    write_text(folder.table, f"# {config.name}\n\n{sentence}\n\n{sections}")
    metrics = metric_charts(results, axes)
    page = render(
        "study.html.j2",
        name=config.name,
        sentence=sentence,
        tables=[(title, list(table.columns), rows_of(table)) for title, table in tables.items()],
        metric_charts=list(metrics),
        metric_image=inline_image(pictures["metric"]),
        pictures=[(TITLES.get(name, name), inline_image(path)) for name, path in pictures.items() if name != "metric"],
        config=folder.config.read_text(encoding="utf-8"),
        charts=metrics,
    )
    write_text(folder.report, page)
    return pictures


def _sentence(results: pd.DataFrame, config: RunConfig) -> str:
    """How many runs of what; of how many where some failed or have not begun."""
    cells = math.prod(map(len, config.study.axes.values())) * max(1, len(config.study.variants))
    count = str(cells) if len(results) == cells else f"{len(results)} of {cells}"
    return f"{count} runs of {config.model.name} on {', '.join(map(str, results['task'].unique()))}."


def paper_tables(results: pd.DataFrame, axes: list[str]) -> dict[str, pd.DataFrame]:
    """Title -> table, those that the study's axes allow."""
    if not study_tables.row_keys(results, axes) or APPROXIMATION in axes:
        return {}
    tables = {
        "Metric by task: median (range) over seeds": study_tables.by_task(results, axes),
        **{
            f"Paired differences, same task and seed: {ours}": study_tables.paired(results, axes, ours)
            for ours in study_tables.searched_rows(results, axes)
        },
        "Agreement of the ranks between seeds (Spearman; by chance 0): mean (range) over pairs": between_seeds(
            results, axes
        ),
        "Cost": study_tables.cost(results, axes),
    }
    return {title: table for title, table in tables.items() if not table.empty}


def rank_maps(results: pd.DataFrame, folder: StudyFolder) -> dict[str, Path]:
    """Figure 3: the learned ranks of the first seed, a picture per task; none where methods are not compared."""
    pictures: dict[str, Path] = {}
    learned = results[results["method"] == "autolora"]
    if APPROXIMATION in results or learned.empty:
        return pictures
    for task, cells in learned.groupby("task", sort=False):
        record = ranks.load(RunFolder(folder.cells / cells["cell"].iloc[0]).ranks)
        path = folder.figures / f"ranks_{re.sub(r'[^A-Za-z0-9_-]+', '-', str(task))}.png"
        save_picture(record, path)
        pictures[f"ranks of {task}"] = path
    return pictures


def closeness(probe: pd.DataFrame) -> pd.DataFrame:
    """Per approximation and eta: cosine and norm ratio to `exact`, cosine of the whole outer gradient."""
    columns = ["cosine", "norm_ratio", "total_cosine", "implicit_to_direct"]
    table = probe.groupby(["approximation", "eta"], sort=False)[columns].mean().reset_index()
    lowest = probe.groupby(["approximation", "eta"], sort=False)["cosine"].min().reset_index(drop=True)
    table.insert(3, "lowest cosine", lowest)
    return table.rename(columns=lambda c: c.replace("_", " "))


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table."""
    rows = [list(table.columns), ["---"] * len(table.columns), *rows_of(table)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"
