"""The tables of a study's report: each has a title, and a note that says what its numbers mean."""

from collections.abc import Iterator

import pandas as pd

from autolora.engine.report.page import Section
from autolora.engine.study import tables
from autolora.engine.study.comparison import Comparison
from autolora.engine.study.paired import HEAD, LEFT_OUT, OURS, compared_row, paired
from autolora.engine.study.rows import LOSS, OUTER, RANKS, SCORE, SEED, SHARES, TASK

COMPARED = {RANKS: "ranks", SHARES: "the layers' shares"}
"""Column with a number for each layer -> how titles call it."""
MOST_ROWS = 12
"""Rows of learned ranks that are compared with each other: a larger table could not be read."""
RESULTS_NOTE = "Medians over the seeds."
_LOSS_NOTE = (
    "Of the evaluation rows, and of the unused training rows (task.unused_rows) of runs with retrain.row_losses."
)
_OUTER_NOTE = (
    "The loss on D_val after the search, before any rank was chosen, on the same rows for all runs of a seed. The "
    "outer problem lowers the loss of minibatches of D_val, without a temperature."
)
_PAIRED_NOTE = (
    "The row in the title is the one that study.reference names, or else the first of method autolora. A positive "
    "mean difference says that it is better, also where less is better; its standard error is over the pairs. "
    f"Differences are parts of what the row in the title gains over method {HEAD} on the same task (L_val: of its "
    "gain in log loss), and tasks on which it gains nothing are left out; if it gains on none, those of a single "
    "task keep their unit, and those of several tasks have no mean and no p. p: two-sided, by Wilcoxon's signed-rank "
    "test; at least six pairs must differ. p, Holm: corrected for the tests of this table, if study.reference chose "
    f"its row. Column {LEFT_OUT!r}: both runs have the same rank in every layer, which says nothing about ranks. "
    "Ratio: the LoRA parameters of the row in the title divided by those of the other row."
)
_DISTANCE_NOTE = (
    "Cosine and norm ratio compare the implicit term with that of exact (a step of gradient descent), the "
    "step cosine compares it with that of exact_adamw (the AdamW step that was taken). The total cosine is that of "
    "the whole outer gradient to that of exact, and the last column the size of the implicit term divided by that of "
    "the direct one."
)
_COST_NOTE = (
    "The row lora is as many plain LoRA steps as an outer step has inner steps; the ratio is that to its seconds. "
    "Seconds and ratio are of the median round, the lowest and the highest ratio of the shortest and the longest one. "
    "Memory is the peak of a step beyond what the search holds between steps (model, optimisers)."
)


def study_sections(results: pd.DataFrame) -> list[Section]:
    """The tables of a study that have something to show."""
    chance = tables.by_chance(results)
    learned = results[results["method"] == OURS]
    found = [
        Section("Metric by task: median (range) over seeds", tables.by_task(results), _other_rows(results)),
        Section("Log loss by task, at a fitted temperature: median (range) over seeds",
                tables.by_task(results, LOSS), _LOSS_NOTE),
        Section("L_val of the searched model, at a fitted temperature: median (range) over seeds",
                tables.by_task(results, OUTER), _OUTER_NOTE),
        *_paired(results),
        *(Section(f"Agreement of {what} between seeds (Spearman): mean (range) over pairs",
                  tables.between_seeds(results, column), chance) for column, what in COMPARED.items()),
        *(Section(f"Agreement of {what} at one seed; on the diagonal between seeds (Spearman, mean)",
                  tables.between_rows(learned, column), chance)
          for column, what in COMPARED.items() if learned["row"].nunique() <= MOST_ROWS),
        Section("Cost", tables.cost(results)),
        Section("Results", tables.summarise(results), RESULTS_NOTE),
    ]  # fmt: skip
    return [section for section in found if section.table is not None and not section.table.empty]


def _other_rows(results: pd.DataFrame) -> str:
    """Sentences that name the tasks whose cells of one seed read other rows, or began from another base model."""
    told = {"were evaluated on other rows": ["evaluation", "evaluated_rows", "unused_rows"],
            "began from several base models": ["base_weights"]}  # fmt: skip
    counts = results.groupby([TASK, SEED], sort=False)[[name for columns in told.values() for name in columns]]
    several = (counts.nunique() > 1).groupby(TASK, sort=False).any()
    tasks = {what: several.index[several[columns].any(axis=1)] for what, columns in told.items()}
    return " ".join(f"The cells of {', '.join(names)} {what}." for what, names in tasks.items() if len(names))


def _paired(results: pd.DataFrame) -> Iterator[Section]:
    """A paired table for each measure that has one; the note of the first says how to read them all."""
    ours, note = compared_row(results), _PAIRED_NOTE
    for what, column in (("", SCORE), (" of the log loss", LOSS), (" of L_val", OUTER)):
        table = paired(results, ours, column) if ours else pd.DataFrame()
        if not table.empty:
            yield Section(f"Paired differences{what}, same task and seed: {ours}", table, note)
            note = "Read it as the first of these tables."


def comparison_sections(comparison: Comparison) -> list[Section]:
    """The tables of the comparison of hypergradients along one search."""
    cost = comparison.cost.dropna(axis=1, how="all").round(3)
    if "memory_mib" in cost:
        cost["memory_mib"] = cost["memory_mib"].round().astype(int)
    cost = cost.rename(columns=lambda name: name.replace("_", " ").replace("mib", "MiB"))
    on = f" Measured on: {comparison.timed_on}." if comparison.timed_on else ""
    distance = "Distance to the exact one-step unroll (Eq. 4), mean over the probed steps"
    return [
        Section(distance, closeness(comparison.probe), _DISTANCE_NOTE),
        Section("Cost of one outer step with its inner steps", cost, _COST_NOTE + on),
    ]


def closeness(probe: pd.DataFrame) -> pd.DataFrame:
    """A row per approximation and eta: how close its implicit term, and the whole outer gradient, are to `exact`."""
    places = probe.groupby(["approximation", "eta"], sort=False)
    table = places[["cosine", "step_cosine", "norm_ratio", "total_cosine", "implicit_to_direct"]].mean()
    table.insert(1, "lowest cosine", places["cosine"].min())
    return table.reset_index().rename(columns=lambda name: name.replace("_", " "))
