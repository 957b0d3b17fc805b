"""Batches of the retraining for one of several processes: its own rows, and what share of the batch they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from problems.data import LengthGroupedOrder, own_part
from problems.machine.processes import Processes

Part = tuple[list[dict[str, Any]], float]


class SharedBatches(torch.utils.data.Dataset[Any]):
    """The rows, seen by one process: asked for a batch, it gives its part and the part's share."""

    def __init__(self, rows: Dataset, processes: Processes) -> None:
        self.rows = rows
        self.processes = processes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, batch: Sequence[int]) -> Part:
        return own_part(self.rows, batch, self.processes)

    @classmethod
    def loader(
        cls, rows: Any, order: LengthGroupedOrder, collate: Any, processes: Processes
    ) -> DataLoader[dict[str, Tensor]]:
        """Batches as plain dicts with `share`, a scalar."""

        def batch(part: Any) -> dict[str, Tensor]:
            own, share = part
            return {**collate(own), "share": torch.tensor(share)}

        return _Loader(
            cls(rows, processes),
            batch_sampler=_WholeBatches(order, order.batch_size, drop_last=False),
            collate_fn=batch,
        )


class _WholeBatches(BatchSampler):
    """The rows in `order` cut into batches, as Trainer's loader in one process does."""

    sampler: LengthGroupedOrder

    def set_epoch(self, epoch: int) -> None:
        """Trainer calls it here when it has skipped the batches before a stop."""
        self.sampler.set_epoch(epoch)


class _Loader(DataLoader[Any]):
    def set_epoch(self, epoch: int) -> None:
        """Which epoch iteration gives; Trainer calls it."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
