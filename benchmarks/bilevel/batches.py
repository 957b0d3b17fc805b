"""Batches of a regression's rows: all of them, or some that are drawn anew for each step."""

import torch

from autolora.problems.data import Batch
from autolora.problems.machine.draws import seed_of
from benchmarks.bilevel.ridge import Batch as Rows


class Batches:
    """Batches of `size` of the `rows`, drawn by `seed` without putting back; None: all rows, each time."""

    def __init__(self, rows: Rows, size: int | None, seed: int) -> None:
        self.rows = rows
        self.size = size
        self.seed = seed

    def __getitem__(self, number: int) -> Batch:
        return self._drawn(seed_of(self.seed, number))

    def drawn(self, *place: int) -> Batch:
        """One more batch."""
        return self._drawn(seed_of(self.seed, "drawn", *place))

    def _drawn(self, seed: int) -> Batch:
        rows = self.rows
        if self.size is not None:
            order = torch.randperm(len(rows["y"]), generator=torch.Generator().manual_seed(seed))[: self.size]
            rows = {name: values[order] for name, values in rows.items()}
        return Batch([(rows, 1.0)], seed)
