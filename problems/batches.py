"""Batches that follow from a seed: their rows, their order, their dropout masks, and the loss and
the gradient over their parts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from transformers.trainer_pt_utils import get_length_grouped_indices

from autolora.problems.machine.compute import Compute, seeded
from autolora.problems.machine.draws import seed_of
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.rows import Rows
from autolora.problems.tasks.losses import count_labels


def epoch_batches(
    lengths: Sequence[int] | np.ndarray,
    size: int,
    seed: int,
    epoch: int,
    *,
    short_last: bool = False,
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
    rows: Rows, batch: Sequence[int], size: int, processes: Processes
) -> tuple[list[list[Any]], list[float]]:
    """Cuts a batch into parts of at most `size` rows; returns this process's rows of each part, and
    their shares.

    A share is the number of labels in these rows over that in the batch (-100 does not count): the
    mean losses times their shares, summed over parts and processes, are the mean loss of the batch.
    A part without a label is left out, unless no part has one, and a process whose rows have none
    gets one row with a label, with the share 0: the mean over no label is NaN, and so is 0 times
    NaN.
    """
    if processes.size == 1 and len(batch) <= size:
        return [rows.take(batch)], [1.0]
    counts = np.array([count_labels(label) for label in rows.labels(batch)])
    parts: list[list[Any]] = []
    shares: list[float] = []
    for start in range(0, len(batch), size):
        part = np.arange(start, min(start + size, len(batch)))
        if not counts[part].any() and (parts or part[-1] + 1 < len(batch)):
            continue
        own = part[processes.rank :: processes.size]
        shares.append(float(counts[own].sum() / max(1, counts.sum())))
        own = own if counts[own].any() else part[[counts[part].argmax()]]
        parts.append(rows.take([batch[place] for place in own]))
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

    rows: Rows
    size: int
    seed: int
    device: torch.device
    processes: Processes = ALONE
    parts: int = 1

    def __post_init__(self) -> None:
        self.whole = self.size * self.parts
        self._epoch = lru_cache(1)(partial(epoch_batches, self.rows.lengths, self.whole, self.seed))

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
            examples, shares = local_parts(self.rows, numbers, self.size, self.processes)
            parts = [send_to_device(self.rows.collate(part), self.device) for part in examples]
        return Batch(list(zip(parts, shares, strict=True)), own)


Gradient = list[Tensor]
Differentiate = Callable[[Tensor, Sequence[Tensor]], Gradient]
"""A loss and the tensors that it depends on -> its slopes, zeros for one that it does not depend
on."""


def losses(
    batch: Batch, loss: Callable[[dict[str, Tensor]], Tensor], compute: Compute
) -> Iterator[Tensor]:
    """The losses of the parts of a batch, always under the batch's dropout masks.

    They sum to its mean loss, over the processes as well. No loss is held while the next one is
    computed.
    """
    for number, (inputs, share) in enumerate(batch.parts):
        with seeded(seed_of(batch.seed, "masks", number), compute.device), compute.autocast():
            value = loss(inputs)
        yield value if share == 1 else value * share
        del value


def slopes(loss: Tensor, inputs: Sequence[Tensor]) -> Gradient:
    """dL/d inputs."""
    return list(torch.autograd.grad(loss, inputs, materialize_grads=True))


def summed(
    function: Callable[[Any], Gradient], parts: Iterable[Any], processes: Processes
) -> Gradient:
    """The sum of a function over the parts of a batch, and over all processes."""

    def added(one: Gradient, other: Gradient) -> Gradient:
        return [a + b for a, b in zip(one, other, strict=True)]

    # map, as a loop over the parts would hold the graph of one while the next is made.
    total: Gradient = reduce(added, map(function, parts))
    return processes.summed(total)


def loss_and_gradient(
    parts: Iterable[Tensor],
    inputs: Sequence[Tensor],
    processes: Processes,
    differentiate: Differentiate = slopes,
) -> tuple[Tensor, Gradient]:
    """L and dL/d inputs of a batch, of which `parts` are the losses.

    Each slope is in memory of its own: two weights that are added have one gradient, which would be
    clipped twice."""

    def of_part(loss: Tensor) -> Gradient:
        return [loss.detach(), *differentiate(loss, inputs)]

    loss, *gradient = summed(of_part, parts, processes)
    return loss, [slope.clone() for slope in gradient]


def descend(
    optimizer: torch.optim.Optimizer,
    weights: Sequence[nn.Parameter],
    gradient: Gradient,
    clipping: float,
) -> None:
    """Takes one optimiser step along a gradient, whose norm is at most `clipping` (0: any)."""
    for weight, slope in zip(weights, gradient, strict=True):
        weight.grad = slope
    if clipping > 0:
        nn.utils.clip_grad_norm_(weights, clipping)
    optimizer.step()
    optimizer.zero_grad()
