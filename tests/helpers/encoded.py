"""Rows as a task would have encoded them."""

import numpy as np
from datasets import Dataset

from autolora.problems.rows import Collate, Rows


def encoded(rows: Dataset, collate: Collate) -> Rows:
    """Rows of a table; without the columns `length` and `group` all have one length, and each is of
    its own input."""
    columns = rows.column_names
    lengths = rows["length"][:] if "length" in columns else np.ones(len(rows), dtype=int)
    groups = rows["group"][:] if "group" in columns else np.arange(len(rows))
    return Rows(rows, collate, np.asarray(lengths), np.asarray(groups))
