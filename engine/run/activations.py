"""Measure, by a forward pass that keeps nothing, how much memory torch would keep for the backward pass of a batch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.hooks import RemovableHandle

from autolora.problems.data import Data
from autolora.problems.machine.compute import Compute, random_state, replay
from autolora.problems.models.recompute import blocks_of, without_cache


@dataclass(frozen=True)
class Activations:
    """Peak memory of a batch's backward pass, in bytes: `fixed` plus `row` for each of its rows.

    `fixed` and `row` if all blocks keep their activations; `fixed_again` and `row_again` if the blocks are computed
    again, one at a time. `fixed` is for copies of weights in the precision of the arithmetic. `blocks`: how many
    blocks the model has; without blocks nothing can be computed again.
    """

    fixed: float
    row: float
    fixed_again: float
    row_again: float
    blocks: int

    def of(self, rows: float, *, again: bool) -> float:
        """Bytes at the peak for a batch of so many rows; `again`: whether the blocks are computed again."""
        if again and self.blocks:
            return self.fixed_again + rows * self.row_again
        return self.fixed + rows * self.row


def activations(model: nn.Module, data: Data, compute: Compute, rows: int = 2) -> Activations:
    """Measures two batches made of the longest training row: one and two copies of it or, if training batches have one
    row (`rows`), the row's first half and the whole row.

    The measurement holds less memory than a training on as many rows: each activation is freed when the next layer
    has read it.
    """
    row = data.train[int(np.argmax(data.train["length"][:]))]
    was_training = model.training
    model.train()
    # The measurement must not change the dropout masks of the training.
    with replay(random_state(compute.device), compute.device):
        measured = [[row], [row, row]] if rows > 1 else [[_half(row)], [row]]
        found = [_held(model, data.collate([dict(one) for one in batch]), compute) for batch in measured]
    model.train(was_training)
    copies = 2 if rows > 1 else 1
    lines = [_line(less, more, copies) for less, more in zip(*found, strict=True)]
    return Activations(*lines[0], *lines[1], blocks=len(blocks_of(model)))


def _half(row: Mapping[str, Any]) -> dict[str, Any]:
    """The first half of a row's tokens, with what the row has for each of them."""
    count, half = row["length"], max(1, row["length"] // 2)
    of_tokens = {name for name, value in row.items() if isinstance(value, list) and len(value) == count}
    return {name: value[:half] if name in of_tokens else value for name, value in row.items()} | {"length": half}


def _line(less: float, more: float, rows: int) -> tuple[float, float]:
    """The fixed part and the part of each row, from the bytes of a batch of `rows` rows and of half as much."""
    # Some tensors are views for a single row and copies for more, and some grow with the square of the tokens: the
    # larger batch may keep more than twice as much.
    fixed = max(0.0, 2 * less - more)
    return fixed, (more - fixed) / rows


def _held(model: nn.Module, batch: dict[str, Tensor], compute: Compute) -> tuple[float, float]:
    """Bytes at the peak of a batch's backward pass: with all activations, and with blocks that are computed again."""
    there = {name: values.to(compute.device) for name, values in batch.items()}
    count = _Count(model)
    with count.noting(), compute.autocast():
        output: Any = model(**there)
    count.keep(output.logits)
    gradient = count.size(output.logits)  # of the scores, at the beginning of the backward pass
    return count.all() + gradient, count.with_blocks_again(gradient)


@dataclass
class _Count:
    """Which storages autograd saves in a forward pass, none of which is held.

    A storage is known by a weak reference: while that exists, torch gives its number to no other storage, even if its
    memory has long been freed. The weights of `model` do not count.
    """

    model: nn.Module
    kept: dict[int, int] = field(default_factory=dict)
    """Number of a storage -> its bytes: what is saved outside the blocks, and the inputs of the blocks."""
    inside: dict[int, dict[int, int]] = field(default_factory=dict)
    """Number of a block -> the same for what is saved inside it."""
    place: list[int] = field(default_factory=list)
    """The blocks around the layer that computes now, the outermost first."""
    known: dict[int, StorageWeakRef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = [*self.model.parameters(), *self.model.buffers()]
        self.own = {self._number(tensor) for tensor in own}

    @contextmanager
    def noting(self) -> Iterator[None]:
        """In the `with` block, counts what a forward pass of the model would keep for its backward pass. Nothing is
        really kept, so no backward pass is possible."""
        handles: list[RemovableHandle] = []
        for number, block in enumerate(blocks_of(self.model)):
            handles += [
                block.register_forward_pre_hook(partial(self._enter, number), with_kwargs=True),
                block.register_forward_hook(lambda *_: self._leave()),
            ]
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._save, lambda nothing: nothing):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def keep(self, tensor: Tensor) -> None:
        """Counts a tensor as kept, wherever its layers are computed again."""
        self._note(tensor, self.kept)

    def size(self, tensor: Tensor) -> int:
        """Bytes of a tensor's storage."""
        return tensor.untyped_storage().nbytes()

    def all(self) -> float:
        """Bytes that are kept if no block is computed again."""
        everything: dict[int, int] = {}
        for saved in (self.kept, *self.inside.values()):
            everything |= saved
        return float(sum(everything.values()))

    def with_blocks_again(self, gradient: int) -> float:
        """Bytes at the peak if blocks are computed again, one by one, after the `gradient` of the scores is gone."""
        blocks = [
            sum(size for number, size in saved.items() if number not in self.kept) for saved in self.inside.values()
        ]
        return float(sum(self.kept.values()) + max([gradient, *blocks]))

    def _enter(self, number: int, _: nn.Module, args: Any, kwargs: Any) -> Any:
        self.place.append(number)
        args, kwargs = without_cache(args, kwargs)
        for value in (*args, *kwargs.values()):
            for tensor in value if isinstance(value, tuple | list) else (value,):
                if isinstance(tensor, Tensor):
                    self.keep(tensor)
        return args, kwargs

    def _leave(self) -> None:
        self.place.pop()

    def _save(self, tensor: Tensor) -> None:
        self._note(tensor, self.inside.setdefault(self.place[0], {}) if self.place else self.kept)

    def _note(self, tensor: Tensor, into: dict[int, int]) -> None:
        number = self._number(tensor)
        if number not in self.own:
            into[number] = self.size(tensor)

    def _number(self, tensor: Tensor) -> int:
        reference = StorageWeakRef(tensor.untyped_storage())
        self.known.setdefault(reference.cdata, reference)
        return int(reference.cdata)
