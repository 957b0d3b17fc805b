"""Which runs have the size of their line?"""

import logging

import pandas as pd

from benchmarks.table1.contrasts import OF_PLACES
from benchmarks.table1.runs import VARIANT
from engine.study.rows import SEED, TASK

log = logging.getLogger("autolora")

BUDGETED = {line for pair in OF_PLACES.items() if pair[0].startswith("shares") for line in pair}
"""The lines that have a budget: ranks by shares, and their shuffles."""
NEAR = 0.2
"""A run may be smaller or larger than the median of its line by this part of it."""


def of_their_size(table: pd.DataFrame) -> pd.DataFrame:
    """The runs without those that missed the budget of their line; logs a line for each task and seed with such runs.

    A search that learned nothing that shows on D_val gives rank 1 to every layer, whatever the budget.
    """
    sizes = table["lora_parameters"]
    usual = table.groupby([TASK, VARIANT])["lora_parameters"].transform("median")
    other = table[VARIANT].isin(BUDGETED) & ((sizes - usual).abs() > NEAR * usual)
    for (task, seed), runs in table[other].groupby([TASK, SEED], sort=False):
        lines = ", ".join(runs[VARIANT])
        log.info("%s, seed %s: left out, as they have another size than their lines: %s", task, seed, lines)
    return table[~other]
