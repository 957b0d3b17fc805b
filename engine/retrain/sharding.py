"""Batches of the retraining for one of several processes: its own rows, and their share of the batch's labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from autolora.problems.data import LengthGroupedOrder, own_rows
from autolora.problems.machine.processes import Processes
from autolora.problems.tasks import Collate


def shared_batches(
    rows: Dataset, order: LengthGroupedOrder, collate: Collate, processes: Processes
) -> DataLoader[dict[str, Tensor]]:
    """The batches of an epoch for this process: its own rows, and the scalar `share` of the batch's labels in them."""
    batches = _WholeBatches(order, order.batch_size, drop_last=False)
    return _Loader(_Parts(rows, collate, processes), batch_sampler=batches, collate_fn=lambda batch: batch)


@dataclass(frozen=True)
class _Parts(torch.utils.data.Dataset[Any]):
    """A data set that returns, when it is asked for a batch, only this process's rows of it, collated."""

    rows: Dataset
    collate: Collate
    processes: Processes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, batch: Sequence[int]) -> dict[str, Tensor]:
        own, share = own_rows(self.rows, batch, self.processes)
        return {**self.collate(own), "share": torch.tensor(share)}


class _WholeBatches(BatchSampler):
    """Cuts the ordered rows into batches, as Trainer's own loader does in a single process."""

    sampler: LengthGroupedOrder

    def set_epoch(self, epoch: int) -> None:
        """Trainer calls this on the sampler itself once it has skipped the batches that were trained before a stop."""
        self.sampler.set_epoch(epoch)


class _Loader(DataLoader[Any]):
    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose batches the next iteration gives; Trainer calls this."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
