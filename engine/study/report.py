"""The report of a study: a list of sections, as table.md, as a page with its figures, and as summary.parquet."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from autolora.configs.files import to_yaml
from autolora.configs.plain import plain
from autolora.configs.schema import RunConfig
from autolora.configs.study import StudyConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_text
from autolora.engine.disk.tables import write_parquet
from autolora.engine.ranks.picture import rank_map
from autolora.engine.report.page import Section, texts, write_page
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.program import told_of_commits
from autolora.engine.study import figures, tables
from autolora.engine.study.comparison import Comparison, read_comparison
from autolora.engine.study.descent import count_of_approximations, descents
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.results import with_others
from autolora.engine.study.rows import APPROXIMATION, COMMIT, OUTER, REFERENCE, SCORE, TASK
from autolora.engine.study.sections import comparison_sections, study_sections

_METRIC = "Tick: median over the seeds; points: the runs. The axis begins at the lowest run, not at 0."
_PASSES = (
    "How fast each search lowers the loss of its minibatches of D_val, without a temperature. Smoothed: each point is "
    "the mean over the last tenth of the logged steps up to there. A line is the mean over the seeds that all lines "
    "have; band: its standard error, without what lifts or lowers all lines of a seed alike."
)


def write_study_report(config: RunConfig, folder: StudyFolder) -> dict[str, Path]:
    """Writes table.md, summary.parquet, figures/ and report.html from a study's parquet files; returns the figures."""
    results, comparison = with_others(folder.results, config.studied.results), read_comparison(folder)
    write_parquet(folder.summary, tables.summarise(results))
    if config.studied.reference is not None:
        results[REFERENCE] = results["row"] == config.studied.reference
    sections = [
        Section("Metric", None, _METRIC, figures.metric_by_row(results), "metric"),
        *study_sections(results),
        *(comparison_sections(comparison) if comparison else ()),
        *_rank_maps(results, folder),
        *_approximations(results, comparison, folder),
    ]
    sentence = _sentence(results, config, len(config.studied.places))
    parts = [
        f"# {plain(str(config.name))}\n\n{plain(sentence)}",
        *(_markdown(one) for one in sections if one.table is not None),
    ]
    write_text(folder.table, "\n\n".join(parts) + "\n")
    return write_page(folder.report, str(config.name), sentence, sections, to_yaml(config))


def _markdown(section: Section) -> str:
    """A part of table.md."""
    assert section.table is not None
    columns = [str(column) for column in section.table.columns]
    rows = [columns, ["---"] * len(columns), *texts(section.table)]
    lines = ["| " + " | ".join(plain(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n\n".join(filter(None, (f"## {section.title}", section.note, "\n".join(lines))))


def _rank_maps(results: pd.DataFrame, folder: StudyFolder) -> Iterator[Section]:
    """For each task the learned ranks of its first run, as in the paper's Figure 3; none if the study compares
    approximations."""
    learned = results[results["method"] == "autolora"] if APPROXIMATION not in results else results[:0]
    for number, (task, cells) in enumerate(learned.groupby(TASK, sort=False)["cell"], start=1):
        record = ranks.load(RunFolder(folder.cells / cells.iloc[0]).ranks)
        name = f"ranks_{number}_{re.sub(r'[^A-Za-z0-9_-]+', '-', str(task))}"
        yield Section(f"Ranks of {task}: {cells.iloc[0]}", None, "", rank_map(record), name)


def _approximations(results: pd.DataFrame, comparison: Comparison | None, folder: StudyFolder) -> Iterator[Section]:
    """The pictures of a study that compares approximations."""
    compares = APPROXIMATION in results or count_of_approximations(results) > 1
    if compares and (tasks := descents(results, folder)):
        drawn = figures.outer_loss_over_passes(tasks)
        yield Section("The loss on D_val over the passes used so far", None, _PASSES, drawn, "passes")
    if comparison is None:
        return
    title = "Cosine to the exact one-step unroll (Eq. 4) over training"
    yield Section(title, None, "", figures.cosine_over_training(comparison.probe), "cosine")
    runs = figures.timed(results, comparison.cost)
    if compares and OUTER in runs and runs[OUTER].notna().any():
        note = "L_val minus its mean over the rows at the same seed, in nats: median and range over the seeds."
        drawn = figures.against_cost(runs, OUTER, "L_val", within_seed=True)
        yield Section("L_val of the searched model against the cost of an outer step", None, note, drawn, "outer_loss")
    if compares and runs[SCORE].notna().any():
        drawn = figures.against_cost(runs, SCORE, str(runs["main_metric"].iloc[0]))
        yield Section("Metric of the retrained model against the cost of an outer step", None, "", drawn, "cost")


def _sentence(results: pd.DataFrame, config: RunConfig, planned: int) -> str:
    """A sentence with the number of runs, their model and their tasks; `7 of 8 runs` if a run has no result. If the
    runs were made at several commits of this program, it names them."""
    count = f"{len(results)} of {planned}" if len(results) < planned else str(len(results))
    model = "" if _varies(config.studied, "model.name") else f" of {config.model.name}"
    tasks = ", ".join(map(str, results[TASK].unique()))
    runs = "run" if count == "1" else "runs"
    commits = [commit if isinstance(commit, str) else None for commit in results.get(COMMIT, ())]
    mixed = told_of_commits(commits, "runs")
    return f"{count} {runs}{model} on {tasks}.{mixed and f' {mixed}'}"


def _varies(study: StudyConfig, key: str) -> bool:
    """Whether the runs of the study may differ in this key."""
    named = [more for values in study.axes.values() if isinstance(values, dict) for more in values.values()]
    return key in study.axes or any(key in more for more in named)
