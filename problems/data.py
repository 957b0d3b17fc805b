"""From rows to batches: loading, encoding, D_tr and D_val, an order that groups rows of similar
length, batches that follow from a seed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from autolora.configs.schema import RunConfig
from autolora.problems.machine.compute import seeded
from autolora.problems.machine.draws import seed_of
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.rows import evenly, keys_of, split_groups
from autolora.problems.tasks import Collate, Task
from autolora.problems.tasks.losses import count_labels
from autolora.problems.tasks.script_rows import ScriptRows
from autolora.problems.tasks.sources import digest

log = logging.getLogger("autolora.inputs")

Halves = Sequence[np.ndarray]
"""Row numbers of D_tr and of D_val."""


@dataclass(frozen=True)
class Data:
    """Encoded rows of one run: `train` is D_tr + D_val, `unused` are training rows that
    task.train_rows left out.

    Each has the columns `length` (tokens), `labels` and `group` (equal for rows of one input)."""

    train: Dataset
    evaluation: Mapping[str, Dataset]
    collate: Collate
    unused: Dataset | None = None


def prepare(task: Task, tokenizer: PreTrainedTokenizerBase, config: RunConfig) -> Data:
    """Loads the rows, cuts them by `task.train_rows` and `task.evaluation_rows`, and encodes
    them."""
    rows = task.raw
    most = config.task.evaluation_rows
    order = np.random.default_rng(config.data_seed).permutation(len(rows.train))
    count = min(config.task.train_rows or len(order), len(order))
    train = _encoded(task, tokenizer, rows.train.select(np.sort(order[:count])), None)
    evaluation = {}
    for name, split in rows.evaluation.items():
        # Neither the first rows, as files are often sorted, nor random ones, as every seed is
        # measured on the same.
        some = split.select(evenly(len(split), most or len(split)))
        evaluation[name] = _encoded(task, tokenizer, some, name)
        if shared := int(np.isin(evaluation[name]["group"][:], train["group"][:]).sum()):
            log.warning(
                "%d of %d rows of %s are also in the training rows: they measure memory, not "
                "learning",
                shared,
                len(some),
                name,
            )
    unused = None
    if left := order[count : count + 2 * config.task.unused_rows].tolist():
        # Some of them have a text of the training rows, and are left out.
        encoded = _encoded(task, tokenizer, rows.train.select(left), None)
        new = np.flatnonzero(~np.isin(encoded["group"][:], train["group"][:]))[
            : config.task.unused_rows
        ]
        unused = encoded.select(new) if len(new) else None
    return Data(train, evaluation, task.collate(tokenizer), unused)


def _encoded(
    task: Task, tokenizer: PreTrainedTokenizerBase, rows: Dataset, split: str | None
) -> Dataset:
    """The encoded rows of a split with their `group`: by the column `source`, else by their
    tokens."""
    found = task.encode(rows, tokenizer, split)
    most = task.config.max_length
    if full := sum(length >= most for length in found["length"][:]):
        log.warning(
            "%s: %d of %d rows reach task.max_length, %d tokens; longer ones are cut off there",
            task.origin(split),
            full,
            len(found),
            most,
        )
    return found.add_column(
        "group", keys_of(found, ["source" if "source" in found.column_names else "input_ids"])
    )


def split_rows(rows: Dataset | ScriptRows, config: RunConfig) -> Halves:
    """Row numbers of D_tr and of D_val, drawn by seed (paper: 1 : 1); by `task.split_by`, rows of
    one input stay together."""
    together = isinstance(rows, ScriptRows) or config.task.split_by == "source"
    groups = rows["group"][:] if together else range(len(rows))
    return split_groups(
        np.array(groups), config.task.validation_share, config.data_seed, "validation_share"
    )


def fingerprint(data: Data, classes: Sequence[str]) -> dict[str, Any]:
    """Class names, and the number and the digest of the training rows, of each evaluation split and
    of the unused rows, as JSON values: they tell whether rows encoded later are the same."""

    def told(rows: Dataset) -> dict[str, Any]:
        return {"rows": len(rows), "sha256": digest(rows)}

    evaluation = {name: told(rows) for name, rows in data.evaluation.items()}
    unused = {} if data.unused is None else {"unused": told(data.unused)}
    return {
        "classes": list(classes),
        "training": told(data.train),
        "evaluation": evaluation,
        **unused,
    }


def epoch_batches(
    lengths: Sequence[int], size: int, seed: int, epoch: int, *, short_last: bool = False
) -> list[list[int]]:
    """Row numbers of each batch of an epoch, from seed and epoch alone; every row comes once. Rows
    of similar length share a batch, so that little padding is needed. `short_last`: the batch of
    fewer rows is the last one."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    rows: Sequence[int] = get_length_grouped_indices(list(lengths), size, generator=generator)
    batches = [list(rows[i : i + size]) for i in range(0, len(rows), size)]
    # transformers sorts the rows in groups of many batches: each group begins with its longest
    # rows. Without this shuffle, batches would get shorter in every group.
    order: list[int] = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in sorted(order, key=lambda i: short_last and len(batches[i]) < size)]


def local_parts(
    rows: Dataset | ScriptRows, batch: Sequence[int], size: int, processes: Processes
) -> tuple[list[list[dict[str, Any]]], list[float]]:
    """Cuts a batch into parts of at most `size` rows; returns this process's rows of each part, and
    their shares.

    A share is the number of labels in these rows over that in the batch (-100 does not count): the
    mean losses times their shares, summed over parts and processes, are the mean loss of the batch.
    A part without a label is left out, unless no part has one, and a process whose rows have none
    gets one row with a label, with the share 0: the mean over no label is NaN, and so is 0 times
    NaN.
    """
    if processes.size == 1 and len(batch) <= size:
        return [rows.__getitems__(list(batch))], [1.0]
    counts = np.array([count_labels(label) for label in rows[list(batch)]["labels"]])
    parts: list[list[dict[str, Any]]] = []
    shares: list[float] = []
    for start in range(0, len(batch), size):
        part = np.arange(start, min(start + size, len(batch)))
        if not counts[part].any() and (parts or part[-1] + 1 < len(batch)):
            continue
        own = part[processes.rank :: processes.size]
        shares.append(float(counts[own].sum() / max(1, counts.sum())))
        own = own if counts[own].any() else part[[counts[part].argmax()]]
        parts.append(rows.__getitems__([batch[place] for place in own]))
    return parts, shares


@dataclass(frozen=True)
class Batch:
    """One batch. `parts`: the inputs of each part that goes through the model by itself, and the
    part's weight in the mean loss. `seed`: of its dropout masks."""

    parts: Sequence[tuple[dict[str, Tensor], float]]
    seed: int


@dataclass(eq=False)
class Batches:
    """The batches of one level of a search: each, with its dropout masks, is a function of the seed
    and its number.

    A batch has `size` times `parts` rows. With several processes each one has its own rows, and
    masks, of a batch.
    """

    rows: Dataset
    size: int
    collate: Collate
    seed: int
    device: torch.device
    processes: Processes = ALONE
    parts: int = 1

    def __post_init__(self) -> None:
        self.whole = self.size * self.parts
        self._epoch = lru_cache(1)(
            partial(epoch_batches, self.rows["length"], self.whole, self.seed)
        )

    def __getitem__(self, number: int) -> Batch:
        """The batch of a step, counted from 0 on; every row comes once in an epoch."""
        epoch, place = divmod(number, -(-len(self.rows) // self.whole))
        return self._batch(self._epoch(epoch)[place], seed_of(self.seed, number))

    def drawn(self, *place: int) -> Batch:
        """One more batch, of rows that the seed and `place` draw, each at most once."""
        seed = seed_of(self.seed, "drawn", *place)
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(seed))
        return self._batch(order[: self.whole].tolist(), seed)

    def _batch(self, numbers: Sequence[int], seed: int) -> Batch:
        own = seed_of(seed, self.processes.rank)
        # a collate may draw, as that of masked words does
        with seeded(seed_of(own, "rows"), self.device):
            rows, shares = local_parts(self.rows, numbers, self.size, self.processes)
            parts = [send_to_device(self.collate(part), self.device) for part in rows]
        return Batch(list(zip(parts, shares, strict=True)), own)
