"""Batches of a regression's rows: all of them, or some that are drawn anew for each step."""

from collections.abc import Iterator, Sequence

import torch

from autolora.problems.machine.draws import seed_of
from benchmarks.bilevel.ridge import Batch


class Batches:
    """Endless batches of `size` of the `rows`, drawn by `seed` without putting back; None: all rows, each time."""

    shares = (1.0,)

    def __init__(self, rows: Batch, size: int | None, seed: int) -> None:
        self.rows = rows
        self.size = size
        self.seed = seed
        self._given = 0

    def __iter__(self) -> Iterator[Batch]:
        while True:
            self._given += 1
            yield self._drawn(seed_of(self.seed, self._given))

    def draw(self, seed: int) -> tuple[list[Batch], Sequence[float]]:
        """One more batch, which `seed` draws, as a list of one part, and that part's weight."""
        return [self._drawn(seed)], self.shares

    def _drawn(self, seed: int) -> Batch:
        if self.size is None:
            return self.rows
        order = torch.randperm(len(self.rows["y"]), generator=torch.Generator().manual_seed(seed))[: self.size]
        return {name: values[order] for name, values in self.rows.items()}
