"""Is one line of Table 1 better than another? The differences between runs of the same task and seed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autolora.engine.study.agreement import RANKS
from autolora.engine.study.paired import AT_GIVEN_RANKS, holm, wilcoxon
from autolora.engine.study.rows import LOSS, SEED, TASK
from benchmarks.table1.runs import VARIANT

HEAD = "head"
"""The line without LoRA."""

OF_PLACES = {
    "shares 0.25": "0.25 shuffled",
    "shares 0.5": "0.5 shuffled",
    "shares 1": "1 shuffled",
    "shares 4": "4 shuffled",
    "threshold": "threshold shuffled",
}
"""Learned ranks -> the same ranks in other layers of the same size."""

OF_RANK_1 = dict.fromkeys(("shares 1", "random 1", "para", "eva", "adalora", "lora_modules"), "rank 1")
"""Lines with as many LoRA parameters as rank 1 in every layer has -> that line."""

OF_RANK_4 = dict.fromkeys(("shares 4", "threshold", "rslora 4", "rank 8", "adapter", "full"), "rank 4")
"""Lines that are about as large as rank 4 in every layer, or larger -> that line."""

FAMILIES = {
    "against the same ranks in other layers": OF_PLACES,
    "against rank 1 in every layer": OF_RANK_1,
    "against rank 4 in every layer": OF_RANK_4,
}
"""Title -> the tests that stand in one table, over which Holm's method corrects."""


@dataclass(frozen=True)
class Contrast:
    """One line against another.

    `differences`: task -> the loss of the other line minus that of the first, nats a label, a value for each seed that
    has both, in the order of the seeds; above 0 the first is better. `gains`: task -> what LoRA gains over the head
    alone at the first line, nats, the mean over the seeds that have both. `p`: two-sided, by Wilcoxon's signed-rank
    test of all differences, each divided by the gain of its task; NaN below six differences. `corrected`: the same
    after Holm's correction over the tests of the table.
    """

    line: str
    other: str
    differences: Mapping[str, np.ndarray]
    gains: Mapping[str, float]
    p: float
    corrected: float = float("nan")

    @property
    def in_gains(self) -> np.ndarray:
        """All differences as parts of the gain of their task."""
        return in_gains(self.differences, self.gains)

    @property
    def better(self) -> int:
        """The number of differences in which the first line is better."""
        return int((self.in_gains > 0).sum())


def in_gains(differences: Mapping[str, np.ndarray], gains: Mapping[str, float]) -> np.ndarray:
    """Each difference over the gain of its task, one task after the other."""
    return np.concatenate([values / gains[task] for task, values in differences.items()])


def contrasts_of(table: pd.DataFrame, pairs: Mapping[str, str]) -> list[Contrast]:
    """A contrast for each pair of lines (line -> the other) that have a task and seed in common, on tasks on which the
    line has learned more than the head alone. Two runs that are the same training are no pair: such as those of a
    shuffle that changed no rank, and of a search that chose rank 1 in every layer beside the line "rank 1"."""
    found = [_contrast(table, *pair) for pair in pairs.items() if {*pair, HEAD} <= set(table[VARIANT])]
    made = [one for one in found if one.differences]
    corrected = holm(pd.Series([one.p for one in made], dtype=float))
    return [
        Contrast(one.line, one.other, one.differences, one.gains, one.p, float(value))
        for one, value in zip(made, corrected, strict=True)
    ]


def _contrast(table: pd.DataFrame, line: str, other: str) -> Contrast:
    differences, gains = {}, {}
    for task, runs in table.groupby(TASK, sort=False):
        losses = runs.pivot(index=SEED, columns=VARIANT, values=LOSS).reindex(columns=list({line, other, HEAD}))
        made = {(run[SEED], run[VARIANT]): run for _, run in runs.iterrows()}
        known = losses[[line, other]].dropna()
        known = known[[not _same_training(made[seed, line], made[seed, other]) for seed in known.index]]
        gain = float((losses[HEAD] - losses[line]).mean())
        if len(known) and gain > 0:
            differences[str(task)], gains[str(task)] = (known[other] - known[line]).to_numpy(), gain
    p = wilcoxon(pd.Series(in_gains(differences, gains))) if differences else float("nan")
    return Contrast(line, other, differences, gains, p)


def _same_training(one: pd.Series, two: pd.Series) -> bool:
    """Whether two runs of a task and seed are of two methods that trained plain LoRA at equal ranks and equal rates.

    Two runs of one method are kept, as they differ in a setting, such as the scale. The losses do not tell: those of
    two machines differ by rounding."""
    if one["method"] == two["method"] or not {one["method"], two["method"]} <= AT_GIVEN_RANKS:
        return False
    rates = one["learning_rate"], two["learning_rate"]
    same_rate = rates[0] == rates[1] or all(map(pd.isna, rates))
    return same_rate and one[RANKS] is not None and list(one[RANKS]) == list(two[RANKS])
