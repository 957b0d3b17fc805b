"""The rows on which a model is measured, and their division into folds of whole groups.

Rows of one input (the references of a record, copies of a text) depend on each other: they share a group, which is
never on both sides of a fold, and which counts as one draw in standard errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from autolora.problems.tasks import Collate


def numbered(inputs: Sequence[Any]) -> np.ndarray:
    """The number of each row's group, counted in the order of the rows [rows]; `inputs`: for each row something that
    is equal for rows of one input. If all rows have one input, each is a group of its own."""
    names = np.empty(len(inputs), dtype=object)
    names[:] = inputs
    owners, found = pd.factorize(names)
    return np.asarray(owners) if len(found) > 1 else np.arange(len(inputs))


@dataclass(frozen=True)
class Rows:
    """Encoded rows. `data`: gives rows by their numbers (`__getitems__`); `collate`: makes a batch with `labels` of
    them. `lengths`: tokens of each row [rows]. `groups`: the number of each row's group, from 0 [rows]."""

    data: Any
    collate: Collate
    lengths: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, data: Any, collate: Collate) -> Self:
        """All rows of a task (a datasets.Dataset) or of a script (GivenRows)."""
        return cls(data, collate, np.asarray(data["length"]), numbered(data["group"][:]))

    @classmethod
    def drawn(cls, data: Any, collate: Collate, numbers: Sequence[int] | np.ndarray, most: int, seed: int) -> Self:
        """Up to `most` of the rows with these numbers, drawn by `seed`, in random order.

        Rows are drawn, not groups, so that a group has no more weight than its rows give it; drawn rows of one group
        follow each other."""
        drawn = np.random.default_rng(seed).permutation(numbers)[:most]
        groups = data["group"][:]
        together = np.argsort(numbered([groups[int(number)] for number in drawn]), kind="stable")
        return cls.of(data.select(drawn[together]), collate)

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def group_count(self) -> int:
        """How many groups the rows have."""
        return int(self.groups.max()) + 1

    def batch(self, numbers: Sequence[int]) -> dict[str, Any]:
        """The rows with these numbers as one batch."""
        return self.collate(self.data.__getitems__(list(numbers)))

    def some(self, most: int) -> "Rows":
        """The first `most` rows."""
        numbers = range(min(most, len(self)))
        return Rows(self.data.select(numbers), self.collate, self.lengths[:most], self.groups[:most])

    def folds(self, count: int) -> np.ndarray:
        """The fold of each row [rows]: `count` folds of whole groups, in the order of the groups, whose borders come
        as close to equal numbers of rows as groups allow. There are at most as many folds as groups."""
        ends = np.cumsum(np.bincount(self.groups))
        wanted = len(self) * np.arange(1, count) / count
        last = {int(np.abs(ends[:-1] - place).argmin()) for place in wanted} if len(ends) > 1 else set()
        fold: np.ndarray = np.searchsorted(sorted(last), self.groups, side="left")
        return fold

    def by_length(self, numbers: np.ndarray, size: int) -> list[list[int]]:
        """Batches of these rows, of similar length, the longest first."""
        order = numbers[np.argsort(-self.lengths[numbers], kind="stable")].tolist()
        return [order[start : start + size] for start in range(0, len(order), size)]

    def draws(self, folds: np.ndarray, size: int, least: int) -> list[list[int]]:
        """Independent draws of whole groups: the rows of each draw, all of one fold.

        A draw has at most `size` rows, unless one group has more; there are at least `least` draws if there are as
        many groups of one size."""
        found: list[list[int]] = []
        count = int(folds.max()) + 1
        for fold in range(count):
            rows = np.flatnonzero(folds == fold)
            rows = rows[np.argsort(self.groups[rows], kind="stable")]
            most, draw = max(1, min(size, len(rows) * count // least)), list[int]()
            for group in np.split(rows, 1 + np.flatnonzero(np.diff(self.groups[rows]))):
                if draw and len(draw) + len(group) > most:
                    found.append(draw)
                    draw = []
                draw = draw + group.tolist()
            found.append(draw)
        return found
