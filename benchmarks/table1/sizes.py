"""Which runs have the size of their line?"""

import logging

import pandas as pd

from autolora.engine.study.rows import SEED, TASK
from benchmarks.table1.contrasts import OF_PLACES
from benchmarks.table1.runs import VARIANT

log = logging.getLogger("autolora")

BUDGETED = {
    line: float(pair[0].split()[1]) for pair in OF_PLACES.items() if pair[0].startswith("shares") for line in pair
}
"""The lines that have a budget, and that budget: ranks by shares, and their shuffles."""
RANK_1 = "rank 1"
NEAR = 0.2
"""A run may be smaller or larger than the budget of its line by this part of it."""


def of_their_size(table: pd.DataFrame) -> pd.DataFrame:
    """The runs without those that missed the budget of their line; logs a line for each task and seed with such runs.

    A search that learned nothing that shows on D_val gives rank 1 to every layer, whatever the budget. Budgets are
    multiples of the size of the line "rank 1"; without this line nothing is left out.
    """
    of_rank_1 = table[table[VARIANT] == RANK_1].groupby(TASK)["lora_parameters"].median()
    wanted = table[VARIANT].map(BUDGETED).astype(float) * table[TASK].map(of_rank_1).astype(float)
    other = (table["lora_parameters"] - wanted).abs() > NEAR * wanted
    for (task, seed), runs in table[other].groupby([TASK, SEED], sort=False):
        lines = ", ".join(runs[VARIANT])
        log.info("%s, seed %s: left out, as they have another size than their lines: %s", task, seed, lines)
    return table[~other]
