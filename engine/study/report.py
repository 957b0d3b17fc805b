"""The report of a study: tables (Markdown and parquet), figures, and one self-contained page."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.schema import RunConfig
from autolora.configs.study import StudyConfig
from autolora.engine.disk.files import write_text
from autolora.engine.disk.tables import write_parquet
from autolora.engine.report.page import inline_image, render
from autolora.engine.run.program import told_of_commits
from autolora.engine.study import tables
from autolora.engine.study.cells import Cell, expand
from autolora.engine.study.charts import metric_charts
from autolora.engine.study.comparison import read_comparison
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.markdown import escaped, markdown
from autolora.engine.study.paired import named
from autolora.engine.study.pictures import NOTES, TITLES, draw
from autolora.engine.study.results import places, searched_by, tasks_of
from autolora.engine.study.rows import COMMIT, REFERENCE, TASK, read_results, texts
from autolora.engine.study.sections import (
    RESULTS_NOTE,
    Section,
    agreement_sections,
    comparison_sections,
    paper_sections,
)


def write_study_report(config: RunConfig, folder: StudyFolder) -> dict[str, Path]:
    """Writes table.md, summary.parquet, figures/ and report.html from a study's parquet files; returns the figures."""
    results, comparison = read_results(folder.results), read_comparison(folder)
    axes = list(config.studied.axes)
    summary = tables.summarise(results, axes)
    write_parquet(folder.summary, summary)
    cells = expand(config, folder)
    if config.studied.reference is not None:
        results[REFERENCE] = results["cell"].isin(reference_cells(config.studied, cells))
    sections = [
        *paper_sections(results, axes),
        Section("Results", summary, RESULTS_NOTE),
        *(comparison_sections(comparison) if comparison else ()),
        *agreement_sections(results, axes),
    ]
    sentence = _sentence(results, config, len(cells))
    head = f"# {escaped(str(config.name))}\n\n{escaped(sentence)}\n\n"
    write_text(folder.table, head + "\n".join(map(_markdown, sections)))
    pictures, charts = draw(results, axes, comparison, folder), metric_charts(results, axes)
    page = render(
        "study.html.j2",
        name=config.name,
        sentence=sentence,
        tables=[(part.title, part.note, list(part.table.columns), texts(part.table)) for part in sections],
        metric_charts=list(charts),
        metric_image=inline_image(pictures["metric"]),
        pictures=[
            (TITLES.get(name, name), NOTES.get(name, ""), inline_image(path))
            for name, path in pictures.items()
            if name != "metric"
        ],
        config=to_yaml(config),
        charts=charts,
    )
    write_text(folder.report, page)
    return pictures


def _markdown(section: Section) -> str:
    """A part of table.md."""
    table = markdown(list(map(str, section.table.columns)), texts(section.table))
    parts = f"## {escaped(section.title)}", escaped(section.note), table
    return "\n\n".join(part for part in parts if part)


def _sentence(results: pd.DataFrame, config: RunConfig, planned: int) -> str:
    """A sentence with the number of runs, their model and their tasks; `7 of 8 runs` if a run has no result. If the
    runs were made at several commits of this program, it names them."""
    count = f"{len(results)} of {planned}" if len(results) < planned else str(planned)
    model = "" if _varies(config.studied, "model.name") else f" of {config.model.name}"
    tasks = ", ".join(map(str, results[TASK].unique()))
    runs = "run" if count == "1" else "runs"
    commits = [commit if isinstance(commit, str) else None for commit in results.get(COMMIT, ())]
    mixed = told_of_commits(commits, "runs")
    return f"{count} {runs}{model} on {tasks}.{mixed and f' {mixed}'}"


def reference_cells(study: StudyConfig, cells: Sequence[Cell]) -> set[str]:
    """The names of the cells in the row that study.reference names as the paired tables do; none without it.

    The row is looked for among all cells, as names may be shorter while runs are missing: a type has its eta behind it
    only if the types differ in it. Raises UserError for a name that no row has.
    """
    if study.reference is None:
        return set()
    own = [{"method": cell.config.method, **searched_by(cell), "cell": cell.config.name} for cell in cells]
    runs = pd.DataFrame([{**place, **more} for place, more in zip(places(cells), own, strict=True)])
    runs[TASK] = tasks_of([(cell.config.task.result_name, cell.config.task.files.get("path")) for cell in cells])
    rows = named(runs, list(study.axes))[0].groupby("name", sort=False)["cell"].agg(set)
    if study.reference not in rows:
        raise UserError(f"--study.reference: no row is named {study.reference!r}; there are: {', '.join(rows.index)}")
    found: set[str] = rows[study.reference]
    return found


def _varies(study: StudyConfig, key: str) -> bool:
    """Whether the runs of the study may differ in this key."""
    named = [more for values in study.axes.values() if isinstance(values, dict) for more in values.values()]
    return key in study.axes or any(key in more for more in named)
