"""The report of a study: a list of sections, as table.md and as a page with its pictures."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from autolora.configs.files import to_yaml
from autolora.configs.plain import plain
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_text
from autolora.engine.report.figures import BLUE, ORANGE
from autolora.engine.report.page import Section, texts, write_page
from autolora.engine.run.folder import RunFolder
from autolora.engine.study import tables
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.results import LOSS, OUTER, RANKS, READ, SCORE, SEED, SHARES, TASK, with_others
from autolora.engine.study.tables import HEAD, LEFT_OUT, OURS
from autolora.engine.tracking.picture import rank_map

MOST_ROWS = 12
"""Rows of learned ranks that are compared with each other: a larger table could not be read."""
_MEASURES = {
    SCORE: ("Metric", ""),
    LOSS: (
        "Log loss", "At a fitted temperature, of the evaluation rows, and of the unused training rows "
        "(task.unused_rows) of runs with retrain.row_losses.",
    ),
    OUTER: (
        "L_val", "The loss on D_val of the searched model, at a fitted temperature, before any rank was chosen, on "
        "the same rows for all runs of a seed.",
    ),
}  # fmt: skip
"""Column -> how titles call it, and what it is."""
_METRIC = "Tick: median over the seeds; points: the runs. The axis begins at the lowest run, not at 0."
_PAIRED = (
    "The row in the title is the one that study.reference names, or else the first of method autolora. A positive "
    "mean difference says that it is better, also where less is better; its standard error is over the pairs. "
    f"Differences are parts of what the row in the title gains over method {HEAD} on the same task (L_val: of its "
    "gain in log loss), and tasks on which it gains nothing are left out; if it gains on none, those of a single "
    "task keep their unit, and those of several tasks have no mean and no p. p: two-sided, by Wilcoxon's signed-rank "
    "test; at least six pairs must differ. p, Holm: corrected for the tests of this table, if study.reference chose "
    f"its row. Column {LEFT_OUT!r}: both runs have the same rank in every layer, which says nothing about ranks."
)


def write_study_report(config: RunConfig, folder: StudyFolder) -> tuple[pd.DataFrame, dict[str, Path]]:
    """Writes table.md, figures/ and report.html from results.parquet; returns all runs and the figures."""
    results = with_others(folder.results, config.studied.results)
    sections = study_sections(results, config.studied.reference)
    sections[1:1] = _rank_maps(results, folder)
    count, planned = len(results), len(config.studied.places)
    runs = f"{count} of {planned} runs" if count < planned else f"{count} runs"
    sentence = f"{runs} on {', '.join(map(str, results[TASK].unique()))}. {_other_rows(results)}".strip()
    parts = [f"# {plain(str(config.name))}\n\n{plain(sentence)}"]
    parts += [_markdown(one) for one in sections if one.table is not None]
    write_text(folder.table, "\n\n".join(parts) + "\n")
    return results, write_page(folder.report, str(config.name), sentence, sections, to_yaml(config))


def study_sections(results: pd.DataFrame, reference: str | None) -> list[Section]:
    """What a study has to show. `reference`: the row that is held against the others; None: the first one that
    searched."""
    learned = results[results["method"] == OURS]
    ours = reference or next(iter(learned["row"]), "")
    found = [Section("Metric", None, _METRIC, metric_by_row(results), "metric")]
    for column, (what, note) in _MEASURES.items():
        found.append(Section(f"{what} by task: median (range) over seeds", tables.by_task(results, column), note))
    note = _PAIRED
    for column, (what, _) in _MEASURES.items():
        table = tables.paired(results, ours, column, corrected=reference is not None)
        found.append(Section(f"{what}: paired differences, same task and seed: {ours}", table, note))
        note = "Read it as the first of these tables." if len(table) else note
    layers = max([2, *map(len, results[RANKS].dropna())])
    note = f"Spearman's correlation. Unrelated orders of {layers} layers correlate by 0 +- {(layers - 1) ** -0.5:.2f}."
    few = learned if learned["row"].nunique() <= MOST_ROWS else learned[:0]
    for column, what in ((RANKS, "ranks"), (SHARES, "the layers' shares")):
        table = tables.between_seeds(results, column)
        found.append(Section(f"Agreement of {what} between seeds: mean (range) over pairs", table, note))
        table = tables.between_rows(few, column)
        found.append(Section(f"Agreement of {what} at one seed; on the diagonal between seeds: mean", table, note))
    found.append(Section("Cost", tables.cost(results), "Medians over the seeds."))
    return [one for one in found if one.table is None or len(one.table)]


def _other_rows(results: pd.DataFrame) -> str:
    """Sentences that name the tasks whose cells of one seed read other rows, or began from another base model."""
    told = []
    for column, what in ((READ, "were evaluated on other rows"), ("base_weights", "began from several base models")):
        counts = results.groupby([TASK, SEED], sort=False)[column].nunique()
        tasks = counts[counts > 1].index.unique(TASK)
        told += [f"The cells of {', '.join(tasks)} {what}."] if len(tasks) else []
    return " ".join(told)


def _markdown(section: Section) -> str:
    """A part of table.md."""
    assert section.table is not None
    columns = [str(column) for column in section.table.columns]
    rows = [columns, ["---"] * len(columns), *texts(section.table)]
    lines = ["| " + " | ".join(plain(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n\n".join(filter(None, (f"## {section.title}", section.note, "\n".join(lines))))


def _rank_maps(results: pd.DataFrame, folder: StudyFolder) -> Iterator[Section]:
    """For each task the learned ranks of its first run, as in the paper's Figure 3."""
    learned = results[results["method"] == OURS]
    for number, (task, cells) in enumerate(learned.groupby(TASK, sort=False)["cell"], start=1):
        record = ranks.load(RunFolder(folder.cells / cells.iloc[0]).ranks)
        name = f"ranks_{number}_{re.sub(r'[^A-Za-z0-9_-]+', '-', str(task))}"
        yield Section(f"Ranks of {task}: {cells.iloc[0]}", None, "", rank_map(record), name)


def metric_by_row(results: pd.DataFrame) -> Figure:
    """A panel for each task: a tick at the median over the seeds of each row, and a point for each run."""
    tasks = list(results.groupby(TASK, sort=False))
    heights = [0.6 + 0.22 * runs["row"].nunique() for _, runs in tasks]
    figure = Figure((7.2, sum(heights)), layout="constrained")
    drawn = figure.subplots(len(tasks), 1, squeeze=False, gridspec_kw={"height_ratios": heights}).flat
    for place, (task, runs) in zip(drawn, tasks, strict=True):
        medians = runs.groupby("row", sort=False)[SCORE].median()
        rows = {name: row for row, name in enumerate(medians.index)}
        place.plot(medians, list(rows.values()), "|", markersize=14, markeredgewidth=3, color=BLUE)
        place.plot(runs[SCORE], runs["row"].map(rows), "o", markersize=4, color=ORANGE)
        place.set_yticks(range(len(rows)), list(map(shortened, rows)))
        place.set_ylim(len(rows) - 0.5, -0.5)
        place.grid(axis="y", linewidth=0.3)
        place.set_xlabel(f"{runs['main_metric'].iloc[0]}, {task}")
    return figure


def shortened(name: str, most: int = 40) -> str:
    """A row's name for an axis or a legend: the middle of a long one is left out, as names differ at both ends."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
