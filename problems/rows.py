"""Rows of one input form a group: a record's references, copies of a text. A group is never on both sides of a
split."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from autolora.configs.errors import UserError

# Whole groups rarely add up to exactly the wanted number of rows; the best of this many random choices is taken.
_DRAWS = 30


def split_groups(groups: Sequence[Hashable] | np.ndarray, share: float, seed: int, key: str) -> list[np.ndarray]:
    """Numbers of the rows that stay, and of those drawn by seed: whole groups, as near to `share` of the rows as the
    best of 30 random choices comes. If all rows are one group, each counts as a group of its own: then these are
    round(share * rows) rows.

    Raises UserError, naming the setting `key`, for fewer than two rows."""
    numbered = isinstance(groups, np.ndarray)
    owners, names = pd.factorize(groups if numbered else pd.Series(list(groups), dtype=object), use_na_sentinel=False)  # type: ignore[arg-type]
    if len(owners) < 2:
        raise UserError(f"--task.{key}: {len(owners)} rows cannot be divided; allowed: two rows or more")
    owners = owners if len(names) > 1 else np.arange(len(owners))
    sizes, generator = np.bincount(owners).tolist(), np.random.default_rng(seed)
    wanted = min(max(round(len(owners) * share), 1), len(owners) - 1)
    best, missed = _draw(sizes, wanted, generator)
    for _ in range(_DRAWS - 1):
        if missed == 0:
            break
        other, by = _draw(sizes, wanted, generator)
        best, missed = (other, by) if by < missed else (best, missed)
    drawn = np.isin(owners, best)
    return [np.flatnonzero(~drawn), np.flatnonzero(drawn)]


def _draw(sizes: Sequence[int], wanted: int, generator: np.random.Generator) -> tuple[list[int], int]:
    """Draws groups; returns them, and how many rows more or fewer than `wanted` they have.

    Groups are taken in a random order, and one that is too large is left out. At the end, the smallest of those left
    out is added if that comes closer. At least one group is drawn, and never all of them."""
    chosen: list[int] = []
    passed: list[int] = []
    left = wanted
    for group in generator.permutation(len(sizes)).tolist():
        fits = sizes[group] <= left
        (chosen if fits else passed).append(group)
        left -= sizes[group] if fits else 0
    smallest = min(passed, key=sizes.__getitem__)
    over = sizes[smallest] - left
    if not chosen or (over < left and len(passed) > 1):
        return [*chosen, smallest], over
    return chosen, left


def keys_of(rows: Dataset, columns: Sequence[str]) -> np.ndarray:
    """A number of 64 bits for each row that is equal for equal cells in these columns, of texts or of lists [rows]."""
    found = [np.empty(0, np.uint64)]
    for batch in rows.select_columns(list(columns)).with_format("numpy").iter(batch_size=10_000):
        hashes = [pd.util.hash_array(np.array(list(map(_key, batch[name])), dtype=object)) for name in columns]
        found.append(pd.util.hash_array(np.array([row.tobytes() for row in np.stack(hashes, axis=1)], dtype=object)))
    return np.concatenate(found).view(np.int64)


def _key(cell: Any) -> Any:
    if not isinstance(cell, np.ndarray):
        return str(cell)
    return "\0".join(cell) if cell.dtype.kind in "OUT" else cell.tobytes()


def evenly(count: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of `count` rows, in order and evenly spread, the first row among them."""
    return np.arange(count) if count <= most else np.arange(most) * count // most
