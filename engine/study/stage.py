"""A study from start to end: its cells, its table, and its report as table.md and as a page with
its pictures."""

import logging
import re
import shlex
import sys
from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from autolora.configs.errors import UserError
from autolora.configs.files import of_folder, to_yaml
from autolora.configs.printable import printable
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import keep_only, write_text
from autolora.engine.disk.lock import locked
from autolora.engine.disk.tables import write_parquet
from autolora.engine.interrupt import StopRequest
from autolora.engine.report.page import Section, texts, write_page
from autolora.engine.stages import unfinished
from autolora.engine.store.folder import RunFolder
from autolora.engine.study import tables
from autolora.engine.study.cells import Cell, expand, in_order, refuse_unread
from autolora.engine.study.folder import StudyFolder, print_study
from autolora.engine.study.launch import launch
from autolora.engine.study.tables import (
    HEAD,
    LAYERS,
    LOSS,
    OURS,
    OUTER,
    RANKS,
    READ,
    SCORE,
    SEED,
    SHARES,
    TASK,
)
from autolora.engine.tracking.picture import rank_map
from autolora.engine.tracking.tracker import tracker_of

log = logging.getLogger("autolora")

_MEASURES = {
    SCORE: ("Metric", ""),
    LOSS: (
        "Log loss",
        "At a fitted temperature, of the evaluation rows and of the unused training rows "
        "(task.unused_rows).",
    ),
    OUTER: (
        "L_val",
        "The loss on D_val of the searched model, at a fitted temperature, before any rank "
        "was chosen, on the same rows for all runs of a seed.",
    ),
}
"""Column -> how titles call it, and what it is."""
_PAIRED = (
    "The row in the title is the one that study.reference names, or else the first of method "
    "autolora. A positive mean difference says that it is better, also where less is better; "
    "its standard error is over the pairs. Differences are parts of what the row in the title "
    f"gains over method {HEAD} on the same task (L_val: of its gain in log loss), and tasks on "
    "which it gains nothing are left out; if it gains on none, those of a single task keep "
    "their unit, and those of several tasks have no mean and no p. p: two-sided, by "
    "Wilcoxon's signed-rank test; at least six pairs must differ. p, Holm: corrected for the "
    "tests of this table, if study.reference chose its row."
)
_AGREEMENT = (
    "Mean of Spearman's correlation at one seed and, on the diagonal, between seeds. "
    "Unrelated orders of {} layers correlate by 0 +- {:.2f}."
)


def run_study(request: Request, stop: StopRequest) -> StudyFolder:
    """Runs the unfinished cells, writes the report, and prints the table.

    Raises UserError for what the user must change, and after the report if a cell has failed;
    Interrupted when a signal asked to stop.
    """
    config = request.config
    folder = StudyFolder.of(request.config)
    if request.stage not in ("all", "report"):
        raise UserError(
            f"--stage: {request.stage!r} is not allowed for a study; allowed: all, report"
        )
    if folder.ranks.exists() or folder.metrics.exists():
        raise UserError(f"--name: {folder.root} holds a single run; give the study another name")
    cells = expand(config, folder)
    if request.stage == "all":
        keys = {key for key in request.given if key.startswith(("name", "runs_folder", "study."))}
        refuse_unread("command line", request.given - keys, cells)
    rows = list(dict.fromkeys(cell.row for cell in cells))
    if config.studied.reference not in (None, *rows):
        raise UserError(
            f"--study.reference: no row is {config.studied.reference!r}; there are: "
            f"{', '.join(rows)}"
        )
    with locked(folder.root):
        failed = list[str]()
        if request.stage == "all":
            # With --overwrite a finished cell ends at once, unless it was made from something else.
            todo = [
                one
                for one in in_order(cells)
                if request.overwrite or not one.finished or unfinished(one.placed())
            ]
            write_text(folder.config, of_folder(config))
            if request.lists:
                _list(todo, {cell.name for cell in cells} - {cell.name for cell in todo})
                return folder
            failed = launch(todo, config.studied, stop, overwrite=request.overwrite)
        write_study_report(config, folder, cells, sends=request.stage == "all")
    print_study(folder)
    if failed:
        names = ", ".join(line.partition(":")[0] for line in failed)
        raise UserError(
            f"{len(failed)} of the study's cells failed, and the results lack them; the same "
            f"command tries them again: {names}; the first failure: {failed[0]}"
        )
    return folder


def _list(todo: Sequence[Cell], finished: set[str]) -> None:
    """Prints the command of each cell to run whose sources are finished, and writes its
    configuration."""
    for cell in todo:
        if finished.issuperset(cell.needs):
            write_text(cell.folder.config, of_folder(cell.placed()))
            print(shlex.join([sys.executable, sys.argv[0], "--config", str(cell.folder.config)]))


def write_study_report(
    config: RunConfig, folder: StudyFolder, cells: Sequence[Cell], *, sends: bool = False
) -> None:
    """Writes results.parquet of the finished cells, table.md, figures/ and report.html; with
    `sends`, also to wandb, as a run of its own in the group of its cells' runs."""
    results = tables.collect(cells)
    if results.empty:
        return
    write_parquet(folder.results, results)
    sections = [*study_sections(results, config.studied.reference), *_rank_maps(results, folder)]
    count = len(results)
    planned = len(config.studied.places)
    runs = f"{count} of {planned} runs" if count < planned else f"{count} runs"
    sentence = (
        f"{runs} on {', '.join(map(str, results[TASK].unique()))}. {_other_rows(results)}".strip()
    )
    parts = [f"# {printable(str(config.name))}\n\n{printable(sentence)}"]
    parts += [
        _markdown(one.title, one.note, one.table) for one in sections if one.table is not None
    ]
    write_text(folder.table, "\n\n".join(parts) + "\n")
    pictures = write_page(folder.report, str(config.name), sentence, sections, to_yaml(config))
    keep_only(pictures.values(), folder.figures)
    if sends:
        sent = config.model_copy(update={"tracking": cells[0].config.tracking})
        with tracker_of(sent, folder.root) as tracker:
            # A cell of a wandb table may hold a number, a text or null, but no list.
            told = results.drop(columns=[LAYERS, RANKS, SHARES]).astype(object)
            tracker.table(
                "study/results",
                told.columns.tolist(),
                told.where(told.notna(), None).to_numpy().tolist(),
            )
            for name, picture in pictures.items():
                tracker.image(f"figures/{name}", picture)


def study_sections(results: pd.DataFrame, reference: str | None) -> list[Section]:
    """What a study has to show. `reference`: the row that is held against the others; None: the
    first one that searched."""
    learned = results[results["method"] == OURS]
    ours = reference or next(iter(learned["row"]), "")
    found = [Section("Metric", figure=metric_by_row(results), name="metric")]
    for column, (what, note) in _MEASURES.items():
        found.append(
            Section(
                f"{what} by task: median (range) over seeds", tables.by_task(results, column), note
            )
        )
    for column, (what, _) in _MEASURES.items():
        table = tables.paired(results, ours, column, corrected=reference is not None)
        note = _PAIRED if column == SCORE else ""
        found.append(
            Section(f"{what}: paired differences, same task and seed: {ours}", table, note)
        )
    layers = max([2, *map(len, results[RANKS].dropna())])
    note = _AGREEMENT.format(layers, (layers - 1) ** -0.5)
    for column, what in ((RANKS, "ranks"), (SHARES, "the layers' shares")):
        found.append(Section(f"Agreement of {what}", tables.agreement(learned, column), note))
    found.append(Section("Cost", tables.cost(results), "Medians over the seeds."))
    return [one for one in found if one.table is None or len(one.table)]


def _other_rows(results: pd.DataFrame) -> str:
    """Sentences that name the tasks whose cells of one seed read other rows, or began from another
    base model."""
    told = []
    for column, what in (
        (READ, "were evaluated on other rows"),
        ("base_weights", "began from several base models"),
    ):
        counts = results.groupby([TASK, SEED], sort=False)[column].nunique()
        tasks = counts[counts > 1].index.unique(TASK)
        told += [f"The cells of {', '.join(tasks)} {what}."] if len(tasks) else []
    return " ".join(told)


def _markdown(title: str, note: str, table: pd.DataFrame) -> str:
    """A part of table.md."""
    columns = [str(column) for column in table.columns]
    rows = [columns, ["---"] * len(columns), *texts(table)]
    lines = [
        "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in row) + " |"
        for row in rows
    ]
    return "\n\n".join(filter(None, (f"## {title}", note, "\n".join(lines))))


def _rank_maps(results: pd.DataFrame, folder: StudyFolder) -> Iterator[Section]:
    """For each task the learned ranks of its first run, as in the paper's Figure 3."""
    learned = results[results["method"] == OURS]
    for number, (task, cells) in enumerate(learned.groupby(TASK, sort=False)["cell"], start=1):
        record = ranks.load(RunFolder(folder.cells / cells.iloc[0]).ranks)
        name = f"ranks_{number}_{re.sub(r'[^A-Za-z0-9_-]+', '-', str(task))}"
        yield Section(f"Ranks of {task}: {cells.iloc[0]}", figure=rank_map(record), name=name)


def metric_by_row(results: pd.DataFrame) -> Figure:
    """A panel for each task, as in the paper's Figure 2: a tick at the median over the seeds of
    each row, and a point for each run."""
    tasks = results.groupby(TASK, sort=False)
    heights = list(0.6 + 0.22 * tasks["row"].nunique())
    figure = Figure((7.2, sum(heights)), layout="constrained")
    panels = figure.subplots(
        len(heights), squeeze=False, gridspec_kw={"height_ratios": heights}
    ).flat
    for axes, (task, runs) in zip(panels, tasks, strict=True):
        medians = runs.groupby("row", sort=False)[SCORE].median()
        axes.plot(medians, medians.index, "|", markersize=14, markeredgewidth=3)
        axes.plot(runs[SCORE], runs["row"], "o", markersize=4)
        axes.invert_yaxis()
        axes.grid(axis="y", linewidth=0.3)
        axes.set_xlabel(f"{runs['main_metric'].iloc[0]}, {task}")
    return figure
