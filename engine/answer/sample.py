"""The rows of D_val on which a searched model is measured, and the passes of a model over them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn

from autolora.engine.answer.likelihood import Likelihood
from autolora.engine.run.interrupt import StopRequest
from autolora.problems.machine.compute import Compute, on_device
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.tasks import Collate
from autolora.problems.tasks.inputs import inputs_of

LEAST_BATCHES = 40
"""The standard error of shares comes from the spread of at least this many batches, if there are enough rows."""
WITH_GRADIENT = 2
"""A pass with a gradient costs about as much as this many passes without: weights need no gradient, only the gates."""

Opened = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the gates of a model are set for one pass."""


def sources_of(rows: Dataset, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """The number of the source of each of the rows with these numbers, counted in their order [numbers].

    Rows of one input have the same source (`inputs_of`). If all rows have one source, each counts as its own."""
    return numbered(inputs_of(rows, numbers))


def numbered(inputs: Sequence[Any]) -> np.ndarray:
    """The number of each row's source, counted in the order of the rows [rows]; `inputs`: for each row something that
    is equal for rows of one source. If all rows have one source, each counts as its own."""
    names = np.empty(len(inputs), dtype=object)
    names[:] = inputs
    owners, found = pd.factorize(names)
    return np.asarray(owners) if len(found) > 1 else np.arange(len(inputs))


def _filled(groups: list[list[int]], size: int) -> list[list[int]]:
    """Batches of at most `size` rows from groups of rows; only a group that is larger than a batch is divided."""
    batches: list[list[int]] = []
    for group in groups:
        if batches and len(batches[-1]) + len(group) <= size:
            batches[-1] += group
        else:
            batches += [group[i : i + size] for i in range(0, len(group), size)]
    return batches


@dataclass(frozen=True)
class Sample:
    """Rows of D_val in a random order; what is chosen on one half of them is measured on the other half. All rows of
    one source (such as the references of a record) are in the same half.

    `batch`: how many rows, of similar length, go through the model at a time if no gradient is taken. Progress is
    counted in rows times passes, where a pass with a gradient counts as WITH_GRADIENT passes: `advance` is called
    after every batch with the progress that it made. `extend` is called with a negative number if less work is needed
    than `measure.passes` planned, which is the most that can come. Several processes divide the
    batches among themselves, and each gets the results of all rows.
    """

    rows: Dataset
    collate: Collate
    likelihood: Likelihood
    compute: Compute
    stop: StopRequest
    processes: Processes = ALONE
    batch: int = 64
    advance: Callable[[int], None] = field(default=lambda rows: None)
    extend: Callable[[int], None] = field(default=lambda rows: None)

    @cached_property
    def sources(self) -> np.ndarray:
        """The number of each row's source, counted in the order of the rows [rows], as in `sources_of`."""
        return sources_of(self.rows, range(len(self.rows)))

    @property
    def source_count(self) -> int:
        """How many sources the rows have."""
        return int(self.sources.max()) + 1

    @cached_property
    def first_half(self) -> np.ndarray:
        """Whether each row lies in the first half, which ends at the source that comes closest to the middle. Boolean
        [rows]."""
        ends = np.cumsum(np.bincount(self.sources))
        taken = 1 + int(np.argmin(np.abs(ends[:-1] - len(self.rows) / 2))) if len(ends) > 1 else 0
        half: np.ndarray = self.sources < taken
        return half

    def half(self, first: bool) -> Self:
        """A sample of the rows of the first or of the second half, in their order."""
        return dataclasses.replace(self, rows=self.rows.select(np.flatnonzero(self.first_half == first)))

    def some(self, most: int) -> Self:
        """A sample of the first `most` rows, whose passes do not count as progress."""
        rows = self.rows.select(range(min(most, len(self.rows))))
        return dataclasses.replace(self, rows=rows, advance=lambda rows: None)

    def typical(self) -> Self:
        """A sample of one batch of medium length, whose passes do not count as progress."""
        batches = self.by_length()
        return dataclasses.replace(self, rows=self.rows.select(batches[len(batches) // 2]), advance=lambda rows: None)

    def random_batches(self, most: int) -> list[list[int]]:
        """Batches of at most `most` rows in the order of the sample; no batch has rows of both halves.

        There are at least LEAST_BATCHES batches if there are enough sources. A source that fits into a batch is in one
        batch."""
        batches: list[list[int]] = []
        for half in (self.first_half, ~self.first_half):
            rows = np.flatnonzero(half)
            size = max(1, min(most, len(rows) // (LEAST_BATCHES // 2)))
            rows = rows[np.argsort(self.sources[rows], kind="stable")]
            _, starts = np.unique(self.sources[rows], return_index=True)
            batches += _filled([group.tolist() for group in np.split(rows, starts[1:])], size)
        return batches

    def own(self, batches: Sequence[list[int]]) -> Iterator[tuple[int, dict[str, Tensor], Tensor]]:
        """This process's batches: the number of each, the model's inputs, and the labels, on the device."""
        for number in range(self.processes.rank, len(batches), self.processes.size):
            if self.processes.size == 1:  # several processes stop together, but only after the stage
                self.stop.check()
            batch = self.collate(self.rows.__getitems__(batches[number]))
            there = on_device(batch, self.compute.device)
            labels = there.pop("labels")
            yield number, there, labels

    def by_length(self, batch: int | None = None) -> list[list[int]]:
        """Batches of rows of similar length (`self.batch` rows unless given), the longest first, so that a batch that
        does not fit into memory fails at the start."""
        size = batch or self.batch
        order = np.argsort(-np.asarray(self.rows["length"]), kind="stable").tolist()
        return [order[i : i + size] for i in range(0, len(order), size)]

    def labelled_logits(self, model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        """The model's logits and their labels.

        A language model computes only logits that predict a label, if its forward has `logits_to_keep`: logits of the
        prompts are not needed, and a vocabulary is large."""
        places = self.likelihood.labelled_positions(labels)
        whole = model.get_base_model() if isinstance(model, PeftModel) else model
        known = signature(whole.forward).parameters
        # No token is generated, so that no cache is needed; RWKV's cannot be differentiated.
        asked: dict[str, Any] = {"use_cache": False, **inputs} if "use_cache" in known else dict(inputs)
        if places is None or not len(places) or "logits_to_keep" not in known:
            return model(**asked).logits, labels
        # One more position is kept, as the likelihood drops the last one, which has no label after it.
        kept = torch.cat([places, places[-1:] + 1])
        return model(**asked, logits_to_keep=kept).logits, torch.cat([labels[:, :1], labels[:, places + 1]], dim=1)

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch as its shares are measured. Scalar."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return self.likelihood.loss(*self.labelled_logits(model, inputs, batch["labels"]), 1.0)

    @torch.no_grad()
    def statistics(self, model: nn.Module, points: Sequence[Opened] = (nullcontext,)) -> tuple[Tensor, Tensor]:
        """The likelihood's statistics of every row [points, rows, numbers], and the rows' weights [rows]; on the CPU.

        Each point is a setting of the gates, for which every row passes once. Dropout is off; autocast is on.
        """
        found: Tensor | None = None
        weights = torch.zeros(len(self.rows), dtype=torch.float64)
        batches = self.by_length()
        model.eval()
        for number, inputs, labels in self.own(batches):
            for place, opened in enumerate(points):
                with opened(), self.compute.autocast():
                    logits, told = self.labelled_logits(model, inputs, labels)
                sums, counts = self.likelihood.statistics(logits, told)
                if found is None:
                    found = torch.zeros(len(points), len(self.rows), sums.shape[1], dtype=torch.float64)
                found[place, batches[number]] = sums.cpu().double()
            weights[batches[number]] = counts.cpu().double()
            self.advance(len(labels) * len(points))
        if found is None:  # fewer batches than processes: this process has none and adds zeros to the sum
            found = torch.zeros(len(points), len(self.rows), self._numbers(model), dtype=torch.float64)
        statistics, weights = self.processes.summed([found, weights])
        return statistics, weights

    def _numbers(self, model: nn.Module) -> int:
        """The number of statistics per row."""
        batch: dict[str, Any] = self.collate(self.rows.__getitems__([0]))
        there = on_device(batch, self.compute.device)
        labels = there.pop("labels")
        return self.likelihood.statistics(model(**there).logits, labels)[0].shape[1]
