"""From rows to batches: loading, encoding, an order that groups rows of similar length, batches that follow from a
seed."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, NamedSplit, concatenate_datasets
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.problems.machine.compute import all_seeded, on_device
from autolora.problems.machine.draws import seed_of
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.tasks import Collate, Task
from autolora.problems.tasks.doubts import texts_of, warn_of_shared_texts, warn_of_unknown_tokens
from autolora.problems.tasks.evenly import evenly
from autolora.problems.tasks.given import GivenRows
from autolora.problems.tasks.labels import IGNORED, count_labels
from autolora.problems.tasks.source_digest import source_digest
from autolora.problems.tasks.split_names import TRAIN, UNUSED

log = logging.getLogger("autolora.inputs")


@dataclass(frozen=True)
class Data:
    """Encoded rows of one run: `train` is D_tr + D_val, `unused` are training rows that task.train_rows left out.

    `source`: the digest of all raw rows that were read; None for the rows of a script. `raw`: the evaluation rows
    before they were encoded, in the same order; empty for rows that another part of the program has chosen."""

    train: Dataset
    evaluation: Mapping[str, Dataset]
    collate: Collate
    unused: Dataset | None = None
    source: Mapping[str, Any] | None = None
    raw: Mapping[str, Dataset] = field(default_factory=dict)


def prepare(task: Task, tokenizer: PreTrainedTokenizerBase, config: RunConfig) -> Data:
    """Loads the rows, cuts them by `task.train_rows` and `task.evaluation_rows`, encodes them, warns of bad rows."""
    rows = task.rows()
    train, unused = _train_and_unused(rows.train, config, task.inputs)
    raw = {name: _spread(split, config.task.evaluation_rows) for name, split in rows.evaluation.items()}
    evaluation = {name: task.encode(_named(split, name), tokenizer) for name, split in raw.items()}
    rest = None if unused is None else task.encode(_named(unused, UNUSED), tokenizer)
    kept = _labelled(task.encode(_named(train, TRAIN), tokenizer))
    rest = rest if rest is not None and len(rest) else None
    data = Data(kept, evaluation, task.collate(tokenizer), rest, source_digest(task.as_read(rows)), raw)
    if example := task.example(data.train[0], tokenizer):
        log.info("%s", example)
    for name, split in raw.items():
        _refuse_without_labels(evaluation[name], task.origin(name), name)
        warn_of_shared_texts(train, split, name, task.inputs)
    for name, encoded in {"the training rows": data.train, **evaluation}.items():
        warn_of_unknown_tokens(encoded, name, tokenizer)
    return data


def _train_and_unused(rows: Dataset, config: RunConfig, columns: Sequence[str]) -> tuple[Dataset, Dataset | None]:
    """The rows that `task.train_rows` keeps, and some of those that it leaves out (None: no such rows).

    The latter are at most `task.unused_rows`, and none unless `retrain.row_losses` is set. Each differs in `columns`
    from every training row, as an equal row would measure memory, not learning.
    """
    count, most = config.task.train_rows, config.task.unused_rows if config.retrain.row_losses else 0
    if count is None or count >= len(rows):
        return rows, None
    order = np.random.default_rng(config.data_seed).permutation(len(rows))
    train = rows.select(np.sort(order[:count]))
    if not most:
        return train, None
    trained = set(texts_of(train, columns))
    left = rows.select(order[count:])
    new = [number for number, text in enumerate(texts_of(left, columns)) if text not in trained]
    return train, left.select(new[:most]) if new else None


def _named(rows: Dataset, split: str) -> Dataset:
    """The rows under the name of their split, which the tasks' warnings say."""
    return rows if rows.split == split else concatenate_datasets([rows], split=NamedSplit(split))


def _counts_of_labels(rows: Dataset) -> np.ndarray | None:
    """How many labels count in the loss of each encoded row; None if each row has one class or number."""
    cells = rows.with_format("arrow")[:]["labels"].combine_chunks()
    if "list" not in str(cells.type):
        return None
    counted = pc.list_flatten(cells).to_numpy() != IGNORED
    return np.bincount(pc.list_parent_indices(cells).to_numpy()[counted], minlength=len(rows))


def _refuse_without_labels(rows: Dataset, where: str, name: str) -> None:
    """Raises UserError if no evaluation row has a label, as the loss on them would be NaN after hours of training."""
    counts = _counts_of_labels(rows)
    if counts is not None and not counts.any():
        raise UserError(
            f"{where}: no word of the {len(rows)} rows of {name} has a token; allowed: words that the tokenizer of "
            f"--model.name can read"
        )


def _labelled(rows: Dataset) -> Dataset:
    """The encoded training rows that have a label: the mean loss of a batch without labels is NaN.

    Raises UserError if no row has one."""
    counts = _counts_of_labels(rows)
    if counts is None or counts.all():
        return rows
    if not counts.any():
        raise UserError(
            f"--task.path: no word of the {len(rows)} training rows has a token; allowed: words that the tokenizer of "
            f"--model.name can read"
        )
    log.warning(
        "%d of %d training rows have no label, as the tokenizer has no token for any of their words; they are not "
        "trained on", int((counts == 0).sum()), len(rows),
    )  # fmt: skip
    return rows.select(np.flatnonzero(counts))


def _spread(rows: Dataset, count: int | None) -> Dataset:
    """`count` rows that are evenly spread over all `rows`; None: all rows.

    They are neither the first rows, as files are often sorted, nor random rows, as every seed must be measured on the
    same ones.
    """
    if count is None or count >= len(rows):
        return rows
    return rows.select(evenly(len(rows), count))


class LengthGroupedOrder(Sampler[int]):
    """The order of rows in each epoch, computed from seed and epoch alone.

    Rows of similar length share a batch, so that little padding is needed.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order iteration gives; transformers' Trainer calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # The reader cuts the rows into batches again: a short batch in their midst would shift all cuts after it.
        batches = sorted(self.batches(self.epoch), key=lambda batch: len(batch) < self.batch_size)
        return (row for batch in batches for row in batch)

    def batches(self, epoch: int) -> list[list[int]]:
        """Row numbers of each batch of an epoch; every row comes once."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        rows: Sequence[int] = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        batches = [list(rows[i : i + self.batch_size]) for i in range(0, len(rows), self.batch_size)]
        # transformers sorts the rows in groups of many batches: each group begins with its longest rows. Without this
        # shuffle, batches would get shorter in every group.
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def own_rows(rows: Dataset, batch: Sequence[int], processes: Processes) -> tuple[list[dict[str, Any]], float]:
    """The rows of a batch that this process computes, and their share of the batch's labels (-100 does not count).

    This process's mean loss times the share, summed over all processes, is the mean loss of the batch. A process whose
    rows have no label gets one row with a label, with the share 0.
    """
    if processes.size == 1:
        return rows.__getitems__(list(batch)), 1.0
    counts = [count_labels(label) for label in rows[list(batch)]["labels"]]
    own = range(processes.rank, len(batch), processes.size)
    counted = sum(counts[i] for i in own)
    if counted == 0:  # the mean over no label is NaN, and so is 0 times NaN
        own, counted = range(int(np.argmax(counts)), int(np.argmax(counts)) + 1), 0
    return rows.__getitems__([batch[i] for i in own]), counted / max(1, sum(counts))


def own_parts(
    rows: Dataset, batch: Sequence[int], size: int, processes: Processes
) -> tuple[list[list[dict[str, Any]]], list[float]]:
    """Cuts a batch into parts of at most `size` rows; returns this process's rows of each part, and their shares.

    A share is the number of labels in these rows over that in the batch: the losses times their shares, summed over
    parts and processes, are the mean loss of the batch. A part without a label is left out, as its mean loss is NaN;
    if no part has a label, the last one is kept.
    """
    if len(batch) <= size:
        own, share = own_rows(rows, batch, processes)
        return [own], [share]
    labels = [count_labels(label) for label in rows[list(batch)]["labels"]]
    parts: list[list[dict[str, Any]]] = []
    shares: list[float] = []
    for start in range(0, len(batch), size):
        counted = sum(labels[start : start + size])
        if counted or (start + size >= len(batch) and not parts):
            own, share = own_rows(rows, batch[start : start + size], processes)
            parts.append(own)
            shares.append(share * counted / max(1, sum(labels)))
    return parts, shares


@dataclass(frozen=True)
class Batch:
    """One batch. `parts`: the inputs of each part that goes through the model by itself, and the part's weight in the
    mean loss. `seed`: of its dropout masks."""

    parts: Sequence[tuple[dict[str, Tensor], float]]
    seed: int


class Batches:
    """The batches of one level of a search: each, with its dropout masks, is a function of the seed and its number.

    A batch has `size` times `parts` rows. With several processes each one has its own rows, and masks, of a batch.
    """

    def __init__(
        self, rows: Dataset, size: int, collate: Collate, seed: int, device: torch.device,
        processes: Processes = ALONE, parts: int = 1,
    ) -> None:  # fmt: skip
        self.rows = rows
        self.size = size
        self.collate = collate
        self.seed = seed
        self.device = device
        self.processes = processes
        self.order = LengthGroupedOrder(rows["length"], size * parts, seed)
        self._of_epoch: tuple[int, list[list[int]]] = (0, self.order.batches(0))

    def __getitem__(self, number: int) -> Batch:
        """The batch of a step, counted from 0 on; every row comes once in an epoch."""
        epoch, place = divmod(number, len(self._of_epoch[1]))
        if epoch != self._of_epoch[0]:
            self._of_epoch = (epoch, self.order.batches(epoch))
        return self._batch(self._of_epoch[1][place], seed_of(self.seed, number))

    def drawn(self, *place: int) -> Batch:
        """One more batch, of rows that the seed and `place` draw, each at most once."""
        seed = seed_of(self.seed, "drawn", *place)
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(seed))
        return self._batch(order[: self.order.batch_size].tolist(), seed)

    def _batch(self, numbers: Sequence[int], seed: int) -> Batch:
        own = seed_of(seed, self.processes.rank)
        with all_seeded(seed_of(own, "rows"), self.device):  # a collate may draw, as that of masked words does
            parts, shares = self._parts(numbers)
        return Batch([(on_device(part, self.device), share) for part, share in zip(parts, shares, strict=True)], own)

    def _parts(self, batch: Sequence[int]) -> tuple[list[dict[str, Tensor]], list[float]]:
        """This process's part of a batch, or its parts if the batch is cut, and their shares."""
        if isinstance(self.rows, GivenRows) and len(batch) > self.size:  # a script has one process
            return self.rows.parts(batch, self.size)
        rows, shares = own_parts(self.rows, batch, self.size, self.processes)
        return [self.collate(part) for part in rows], shares
