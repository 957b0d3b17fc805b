"""The report of a study: tables (Markdown and parquet), figures, and one self-contained page."""

import re
from pathlib import Path

import pandas as pd

from configs.schema import RunConfig, StudyConfig
from engine import ranks
from engine.disk.files import write_text
from engine.disk.tables import write_parquet
from engine.ranks.picture import save_picture
from engine.report.page import inline_image, render
from engine.run.folder import RunFolder
from engine.run.program import told_of_commits
from engine.study import figures, tables
from engine.study.agreement import RANKS, SHARES, WITHIN_TYPE, between_rows, between_seeds, by_chance
from engine.study.cells import expand
from engine.study.charts import metric_charts
from engine.study.combinations import VARIANT
from engine.study.comparison import read_comparison
from engine.study.folder import StudyFolder
from engine.study.lacking import without_result
from engine.study.markdown import escaped, markdown
from engine.study.paired import LEFT_OUT, OTHER_ROWS, paired, searched_rows
from engine.study.rows import APPROXIMATION, COMMIT, LOSS, OUTER, SCORE, TASK, read_results, row_keys, texts

COMPARED = {
    RANKS: "ranks",
    SHARES: "the layers' shares",
    WITHIN_TYPE: "shares minus the mean of their module type",
}
"""Column with a number for each layer -> how tables and their titles call it."""
LACKING = "Without a result"
_LOSSES = "Log loss by task, at a fitted temperature"
_PAIRED = "Paired differences"
_OUTER = "Loss on D_val of the searched model (L_val, which the outer problem lowers)"
_AGREEMENT = "Agreement"
_DISTANCE = "Distance to the exact one-step unroll (Eq. 4), mean over the probed steps"
_COST = "Cost of one outer step with its inner steps"
NOTES = {
    _LOSSES: "Of the evaluation rows; if all runs have retrain.row_losses, of the unused training rows "
    "(task.unused_rows), too.",
    _PAIRED: "A positive mean difference says that the row in the title is better, also where less is better, as for "
    "a loss; its standard error is over the pairs. Runs of one task and seed that differ on further axes count as one "
    "pair, with their mean difference. p: two-sided, by Wilcoxon's signed-rank test; at least six pairs "
    "must differ. p, Holm: corrected for the tests of this table; other tables of the page have tests of their own. "
    "p speaks for the tasks of this study, not for other tasks. Ratio: the LoRA parameters of the row in the title "
    "divided by those of the row in the table.",
    _OUTER: "Measured after the search, before any rank was chosen, at a fitted temperature and on the same rows of "
    "D_val for all runs of a seed.",
    _DISTANCE: "Cosine and norm ratio compare the implicit term with that of exact (a step of gradient descent), the "
    "step cosine compares it with that of exact_adamw (the AdamW step that was taken). The total cosine is that of "
    "the whole outer gradient to that of exact, and the last column the size of the implicit term divided by that of "
    "the direct one.",
    _COST: "The row lora is as many plain LoRA steps as an outer step has inner steps; the ratio is that to its "
    "seconds.",
}
"""Beginning of a table's title -> what its numbers mean."""
_LEFT_OUT = {
    LEFT_OUT: "both runs have the same rank in every layer, so that their difference says nothing about ranks",
    OTHER_ROWS: "the two runs were evaluated on unequally many rows",
}
TITLES = {
    "cosine_over_training": "Cosine to the exact one-step unroll (Eq. 4) over training",
    "outer_loss_against_cost": "What the search reaches: L_val against the cost of an outer step",
    "metric_against_cost": "Metric of the retrained model against the cost of an outer step",
}


def write_study_report(config: RunConfig, folder: StudyFolder) -> dict[str, Path]:
    """Writes table.md, summary.parquet, figures/ and report.html from a study's parquet files; returns the figures."""
    results = read_results(folder.results)
    axes = [*config.study.axes, *([VARIANT] if config.study.variants else [])]
    found = {**paper_tables(results, axes), "Results": tables.summarise(results, axes)}
    pictures = {"metric": folder.figures / "metric.png", **rank_maps(results, folder)}
    figures.metric_by_row(results, axes, pictures["metric"])
    # cost.parquet is missing if the comparison was stopped before it had measured the cost.
    if folder.probe.exists() and folder.cost.exists():
        probe, cost = read_comparison(folder)
        found[_DISTANCE] = closeness(probe)
        found[_COST] = cost.round(3).rename(columns=lambda name: name.replace("_", " "))
        pictures["cosine_over_training"] = folder.figures / "cosine.png"
        figures.cosine_over_training(probe, pictures["cosine_over_training"])
        pictures |= cost_pictures(results, axes, cost, folder)
    found |= agreements(results, axes)
    cells = expand(config, folder)
    if not (lacking := without_result(cells, set(results["cell"]))).empty:
        found[LACKING] = lacking
    write_parquet(folder.summary, found["Results"])
    shown = [(title, _note(title, table, results), table) for title, table in found.items()]
    sentence = _sentence(results, config, len(cells))
    sections = "\n".join(_section(title, note, table) for title, note, table in shown)
    write_text(folder.table, f"# {escaped(str(config.name))}\n\n{escaped(sentence)}\n\n{sections}")
    charts = metric_charts(results, axes)
    page = render(
        "study.html.j2",
        name=config.name,
        sentence=sentence,
        tables=[(title, note, list(table.columns), texts(table)) for title, note, table in shown],
        metric_charts=list(charts),
        metric_image=inline_image(pictures["metric"]),
        pictures=[(TITLES.get(name, name), inline_image(path)) for name, path in pictures.items() if name != "metric"],
        config=folder.config.read_text(encoding="utf-8"),
        charts=charts,
    )
    write_text(folder.report, page)
    return pictures


def _section(title: str, note: str, table: pd.DataFrame) -> str:
    """A part of table.md."""
    return "\n\n".join(part for part in (f"## {escaped(title)}", escaped(note), markdown(table)) if part)


def _note(title: str, table: pd.DataFrame, results: pd.DataFrame) -> str:
    """What the numbers of a table mean; "" if its title says it."""
    if title.startswith(_AGREEMENT):
        return by_chance(results)
    note = next((note for start, note in NOTES.items() if title.startswith(start)), "")
    for column, why in _LEFT_OUT.items():
        if column in table:
            count = table[column].sum()
            note += f" {count} {'pair is' if count == 1 else 'pairs are'} left out: {why}."
    return note


def _sentence(results: pd.DataFrame, config: RunConfig, planned: int) -> str:
    """A sentence with the number of runs, their model and their tasks; `7 of 8 runs` if a run has no result, and where
    the reason is. If the runs were made at several commits of this program, it names them."""
    lacking = len(results) < planned
    count = f"{len(results)} of {planned}" if lacking else str(planned)
    model = "" if _varies(config.study, "model.name") else f" of {config.model.name}"
    tasks = ", ".join(map(str, results[TASK].unique()))
    runs = "run" if count == "1" else "runs"
    why = " The last table says why the others have no result." if lacking else ""
    commits = [commit if isinstance(commit, str) else None for commit in results.get(COMMIT, ())]
    mixed = told_of_commits(commits, "runs")
    return f"{count} {runs}{model} on {tasks}.{why}{mixed and f' {mixed}'}"


def _varies(study: StudyConfig, key: str) -> bool:
    """Whether the runs of the study may differ in this key."""
    by_value = (values for axis in study.where.values() for values in axis.values())
    return key in study.axes or any(key in values for values in (*study.variants.values(), *by_value))


def paper_tables(results: pd.DataFrame, axes: list[str]) -> dict[str, pd.DataFrame]:
    """Title -> table, for the paper's tables that the study's axes allow. A study of approximations has its own tables
    of the cost and of the agreement."""
    if not row_keys(results, axes):
        return {}
    found = {
        "Metric by task: median (range) over seeds": tables.by_task(results, axes),
        f"{_LOSSES}: median (range) over seeds": tables.losses_by_task(results, axes),
        f"{_OUTER}: median (range) over seeds": tables.outer_losses_by_task(results, axes),
        **{
            f"{what}, same task and seed: {ours}": paired(results, axes, ours, column)
            for what, column in ((_PAIRED, SCORE), (f"{_PAIRED} of the log loss", LOSS))
            for ours in searched_rows(results, axes)
        },
    }
    if APPROXIMATION not in axes:
        found[f"{_AGREEMENT} between seeds (Spearman): mean (range) over pairs"] = agreement_of_seeds(results, axes)
        found["Cost"] = tables.cost(results, axes)
    return {title: table for title, table in found.items() if not table.empty}


def agreement_of_seeds(results: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """The agreement between seeds of the ranks, of the shares, and of the shares within a module type, one below the
    other; column `of` says which."""
    parts = [(what, between_seeds(results, axes, column)) for column, what in COMPARED.items()]
    known = [table.assign(of=what) for what, table in parts if not table.empty]
    if not known:
        return pd.DataFrame()
    table = pd.concat(known, ignore_index=True).fillna("")
    return table[["", "of", *(name for name in table if name not in ("", "of"))]]


def agreements(results: pd.DataFrame, axes: list[str]) -> dict[str, pd.DataFrame]:
    """Title -> table, for the agreement between approximations or between variants at one seed. Variants are compared
    by their shares alone, as they may differ in the rule that makes the ranks."""
    by = next((axis for axis in (APPROXIMATION, VARIANT) if axis in results), None)
    if by is None:
        return {}
    columns = COMPARED if by == APPROXIMATION else {name: what for name, what in COMPARED.items() if name != RANKS}
    where = "at one seed; on the diagonal between seeds (Spearman, mean)"
    found = {f"{_AGREEMENT} of {what} {where}": between_rows(results, axes, by, column)
             for column, what in columns.items()}  # fmt: skip
    return {title: table for title, table in found.items() if not table.empty}


def rank_maps(results: pd.DataFrame, folder: StudyFolder) -> dict[str, Path]:
    """Draws for each task the learned ranks of its first run, as the paper's Figure 3; none if approximations are
    compared."""
    learned = results[results["method"] == "autolora"]
    if APPROXIMATION in results or learned.empty:
        return {}
    pictures = {}
    for task, cells in learned.groupby(TASK, sort=False)["cell"]:
        path = folder.figures / f"ranks_{re.sub(r'[^A-Za-z0-9_-]+', '-', str(task))}.png"
        save_picture(ranks.load(RunFolder(folder.cells / cells.iloc[0]).ranks), path)
        pictures[f"ranks of {task}: {cells.iloc[0]}"] = path
    return pictures


def cost_pictures(
    results: pd.DataFrame, axes: list[str], cost: pd.DataFrame, folder: StudyFolder
) -> dict[str, Path]:  # fmt: skip
    """Draws what the runs of each approximation reached against the cost of its outer step; none if no approximation
    of the study was timed."""
    if APPROXIMATION not in results:
        return {}
    timed = results[results[APPROXIMATION].isin(cost["approximation"])]
    pictures = {}
    if OUTER in timed and timed[OUTER].notna().any():
        pictures["outer_loss_against_cost"] = folder.figures / "outer_loss.png"
        figures.outer_loss_against_cost(timed, axes, cost, pictures["outer_loss_against_cost"])
    if not timed.empty:
        pictures["metric_against_cost"] = folder.figures / "cost.png"
        figures.metric_against_cost(timed, axes, cost, pictures["metric_against_cost"])
    return pictures


def closeness(probe: pd.DataFrame) -> pd.DataFrame:
    """A row per approximation and eta: how close its implicit term, and the whole outer gradient, are to `exact`."""
    places = probe.groupby(["approximation", "eta"], sort=False)
    table = places[["cosine", "step_cosine", "norm_ratio", "total_cosine", "implicit_to_direct"]].mean()
    table.insert(1, "lowest cosine", places["cosine"].min())
    return table.reset_index().rename(columns=lambda name: name.replace("_", " "))
