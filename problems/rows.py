"""Rows of one input form a group: a record's references, copies of a text. A group is never on both
sides of a split."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from datasets import Dataset

from autolora.configs.errors import UserError


def split_groups(
    groups: Sequence[int] | np.ndarray, share: float, seed: int, key: str
) -> list[np.ndarray]:
    """Numbers of the rows that stay, and of those drawn by seed: whole groups in a random order,
    each that still fits into `share` of the rows, but at least one. If all rows are one group, each
    is a group of its own.

    Raises UserError, naming the setting `key`, for fewer than two rows."""
    if len(groups) < 2:
        raise UserError(
            f"--task.{key}: {len(groups)} rows cannot be divided; allowed: two rows or more"
        )
    owners = numbered(groups)
    sizes = np.bincount(owners)
    left = min(max(round(len(owners) * share), 1), len(owners) - 1)
    fitting = []
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[group] <= left:
            fitting.append(group)
            left -= sizes[group]
    drawn = np.isin(owners, fitting or [sizes.argmin()])
    return [np.flatnonzero(~drawn), np.flatnonzero(drawn)]


def numbered(groups: Sequence[int] | np.ndarray) -> np.ndarray:
    """The number of each row's group, counted in the order of the rows [rows]; `groups`: equal for
    rows of one input. If all rows have one input, each is a group of its own."""
    owners, found = pd.factorize(np.asarray(groups))
    return owners if len(found) > 1 else np.arange(len(owners))


def keys_of(rows: Dataset, columns: Sequence[str]) -> np.ndarray:
    """A number of 64 bits for each row that is equal for equal cells in these columns, of texts or
    of lists [rows]."""
    found = [np.empty(0, np.uint64)]
    for batch in rows.select_columns(list(columns)).iter(batch_size=10_000):
        cells = [repr(cell) for cell in zip(*batch.values(), strict=True)]
        found.append(pd.util.hash_array(np.array(cells, dtype=object)))
    return np.concatenate(found).view(np.int64)


def evenly(count: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of `count` rows, in order and evenly spread, the first row among
    them."""
    return np.arange(count) if count <= most else np.arange(most) * count // most
