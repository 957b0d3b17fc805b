"""The tables of a study's report: each has a title, and a note that says what its numbers mean."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from autolora.engine.study import tables
from autolora.engine.study.agreement import RANKS, SHARES, WITHIN_TYPE, between_rows, between_seeds, by_chance
from autolora.engine.study.combinations import VARIANT
from autolora.engine.study.comparison import Comparison
from autolora.engine.study.paired import HEAD, LEFT_OUT, OTHER_ROWS, OURS, compared_row, paired
from autolora.engine.study.rows import APPROXIMATION, LOSS, OUTER, SCORE, row_keys

COMPARED = {
    RANKS: "ranks",
    SHARES: "the layers' shares",
    WITHIN_TYPE: "shares minus the mean of their module type",
}
"""Column with a number for each layer -> how tables and their titles call it."""
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
    "task keep their unit, and those of several tasks have no mean and no p. Runs of one task and seed that "
    "differ on further axes count as one pair. p: two-sided, by Wilcoxon's signed-rank test; at least six pairs "
    "must differ. p, Holm: corrected for the tests of this table, if study.reference chose its row; p itself is "
    "not corrected. Ratio: the LoRA parameters of the row in the title divided by those of the other row."
)
_LEFT_OUT = {
    LEFT_OUT: "both runs have the same rank in every layer, so that their difference says nothing about ranks",
    OTHER_ROWS: "the two runs were evaluated on unequally many rows",
}
"""Column of a paired table that counts pairs which are left out -> why they are."""
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


RESULTS_NOTE = "Metrics, sizes and seconds are medians over the seeds; the mean rank is a mean over them, too."
"""The note of the table that `tables.summarise` makes."""


@dataclass(frozen=True)
class Section:
    """A table of the report under its title. `note`: what its numbers mean; "" if the title says it."""

    title: str
    table: pd.DataFrame
    note: str = ""


def paper_sections(results: pd.DataFrame, axes: Sequence[str]) -> list[Section]:
    """The paper's tables that the study's axes allow. A study of approximations has its own tables of the cost and of
    the agreement."""
    if not row_keys(results, axes):
        return []
    losses, outer = tables.losses_by_task(results, axes), tables.outer_losses_by_task(results, axes)
    found = [
        Section("Metric by task: median (range) over seeds", tables.by_task(results, axes)),
        Section("Log loss by task, at a fitted temperature: median (range) over seeds", losses, _LOSS_NOTE),
        Section(
            "L_val of the searched model, at a fitted temperature: median (range) over seeds",
            outer, _OUTER_NOTE,
        ),
        *_paired(results, axes),
    ]  # fmt: skip
    if APPROXIMATION not in axes:
        title = "Agreement between seeds (Spearman): mean (range) over pairs"
        found.append(Section(title, agreement_of_seeds(results, axes), by_chance(results)))
        found.append(Section("Cost", tables.cost(results, axes)))
    return _filled(found)


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


def agreement_sections(results: pd.DataFrame, axes: Sequence[str]) -> list[Section]:
    """The agreement between approximations, or between variants, at one seed; only runs of method autolora are
    compared, as others read no hypergradient. Variants are compared by their shares alone, as they may differ in the
    rule that makes the ranks."""
    results = results[results["method"] == OURS]
    by = next((axis for axis in (APPROXIMATION, VARIANT) if axis in results), None)
    if by is None:
        return []
    columns = COMPARED if by == APPROXIMATION else {name: what for name, what in COMPARED.items() if name != RANKS}
    where = "at one seed; on the diagonal between seeds (Spearman, mean)"
    note = by_chance(results)
    return _filled(
        Section(f"Agreement of {what} {where}", between_rows(results, axes, by, column), note)
        for column, what in columns.items()
    )


def _filled(sections: Iterable[Section]) -> list[Section]:
    return [section for section in sections if not section.table.empty]


def _paired(results: pd.DataFrame, axes: Sequence[str]) -> Iterator[Section]:
    """A paired table for each measure that has one; the note of the first says how to read them all."""
    ours, note = compared_row(results, axes), _PAIRED_NOTE
    for what, column in (("", SCORE), (" of the log loss", LOSS), (" of L_val", OUTER)):
        table = paired(results, axes, ours, column) if ours and column in results else pd.DataFrame()
        if not table.empty:
            yield Section(f"Paired differences{what}, same task and seed: {ours}", table, note + _left_out(table))
            note = "Read it as the first of these tables."


def _left_out(table: pd.DataFrame) -> str:
    """Sentences that say how many pairs a paired table leaves out, and why."""
    known = [(table[column].sum(), why) for column, why in _LEFT_OUT.items() if column in table]
    return "".join(f" {count} {'pair is' if count == 1 else 'pairs are'} left out: {why}." for count, why in known)


def agreement_of_seeds(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The agreement between seeds of the ranks, of the shares, and of the shares within a module type, one below the
    other; column `of` says which."""
    parts = [(what, between_seeds(results, axes, column)) for column, what in COMPARED.items()]
    known = [table.assign(of=what) for what, table in parts if not table.empty]
    if not known:
        return pd.DataFrame()
    table = pd.concat(known, ignore_index=True).fillna("")
    return table[["", "of", *(name for name in table if name not in ("", "of"))]]


def closeness(probe: pd.DataFrame) -> pd.DataFrame:
    """A row per approximation and eta: how close its implicit term, and the whole outer gradient, are to `exact`."""
    places = probe.groupby(["approximation", "eta"], sort=False)
    table = places[["cosine", "step_cosine", "norm_ratio", "total_cosine", "implicit_to_direct"]].mean()
    table.insert(1, "lowest cosine", places["cosine"].min())
    return table.reset_index().rename(columns=lambda name: name.replace("_", " "))
