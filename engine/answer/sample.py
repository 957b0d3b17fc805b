"""The rows of D_val on which a search is judged, and the passes of a model over them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Self

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn

from engine.answer.likelihood import Likelihood
from engine.run.interrupt import StopRequest
from problems.machine.compute import Compute
from problems.machine.processes import ALONE, Processes
from problems.tasks import Collate

LEAST_BATCHES = 40
"""Standard errors of shares come from the spread of so many batches, or one for each row of fewer rows."""
WITH_GRADIENT = 3
"""A pass with its gradient, in passes without."""

Opened = Callable[[], AbstractContextManager[None]]
"""Opens the context of a pass: the gates of a model."""


@dataclass(frozen=True)
class Sample:
    """Rows of D_val in a random order. The first half and the second half judge each other.

    `batch` rows of like length go through the model at a time where no gradient is taken. `advance` is told after
    every batch of its rows times their passes, one with a gradient counting as WITH_GRADIENT. Several processes share
    the batches among them, and all learn every number. `extend` is told, in the same measure, of passes over all rows
    that come on top of those of `measure.passes`.
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

    @property
    def first_half(self) -> np.ndarray:
        """Whether each row lies in the first half. Boolean [rows]."""
        half: np.ndarray = np.arange(len(self.rows)) < len(self.rows) // 2
        return half

    def some(self, most: int) -> Self:
        """The first `most` rows alone, which nobody is told of."""
        rows = self.rows.select(range(min(most, len(self.rows))))
        return dataclasses.replace(self, rows=rows, advance=lambda rows: None)

    def random_batches(self, most: int) -> list[list[int]]:
        """Batches of at most `most` rows, in the order of the sample, none with rows of both halves; at least
        LEAST_BATCHES of them where there are as many rows."""
        split = len(self.rows) // 2
        batches = []
        for start, stop in (0, split), (split, len(self.rows)):
            size = max(1, min(most, (stop - start) // (LEAST_BATCHES // 2)))
            batches += [list(range(i, min(i + size, stop))) for i in range(start, stop, size)]
        return batches

    def own(self, batches: Sequence[list[int]]) -> Iterator[tuple[int, dict[str, Tensor], Tensor]]:
        """This process's batches: number, inputs of the model and labels, on the device."""
        for number in range(self.processes.rank, len(batches), self.processes.size):
            if self.processes.size == 1:  # several stop together, after the stage
                self.stop.check()
            batch = self.collate(self.rows.__getitems__(batches[number]))
            there = {name: values.to(self.compute.device) for name, values in batch.items()}
            labels = there.pop("labels")
            yield number, there, labels

    def by_length(self, batch: int | None = None) -> list[list[int]]:
        """Batches of rows of like length (`self.batch` unless given), the longest first: what does not fit the memory
        fails at once."""
        size = batch or self.batch
        order = np.argsort(-np.asarray(self.rows["length"]), kind="stable").tolist()
        return [order[i : i + size] for i in range(0, len(order), size)]

    def told(self, model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        """The model's logits and their labels: of a language model those of the prompts are left out, if its forward
        can (a vocabulary is wide, and nothing is learned of them)."""
        places = self.likelihood.told_by(labels)
        whole = model.get_base_model() if isinstance(model, PeftModel) else model
        if places is None or not len(places) or "logits_to_keep" not in signature(whole.forward).parameters:
            return model(**inputs).logits, labels
        # A likelihood leaves out the last token's logits, which have no label after them, so that one more is kept.
        kept = torch.cat([places, places[-1:] + 1])
        return model(**inputs, logits_to_keep=kept).logits, torch.cat([labels[:, :1], labels[:, places + 1]], dim=1)

    @torch.no_grad()
    def statistics(self, model: nn.Module, points: Sequence[Opened] = (nullcontext,)) -> tuple[Tensor, Tensor]:
        """What the likelihood keeps of every row [points, rows, numbers], and the rows' weights [rows]; on the CPU.

        Every point opens its gates for one pass. The model's dropout is off, and the passes run under autocast.
        """
        found: Tensor | None = None
        weights = torch.zeros(len(self.rows), dtype=torch.float64)
        batches = self.by_length()
        model.eval()
        for number, inputs, labels in self.own(batches):
            for place, opened in enumerate(points):
                with opened(), self.compute.autocast():
                    logits, told = self.told(model, inputs, labels)
                sums, counts = self.likelihood.statistics(logits, told)
                if found is None:
                    found = torch.zeros(len(points), len(self.rows), sums.shape[1], dtype=torch.float64)
                found[place, batches[number]] = sums.double().cpu()
            weights[batches[number]] = counts.double().cpu()
            self.advance(len(labels) * len(points))
        if found is None:  # fewer batches than processes: this one's share is empty, and so is its part of the sum
            found = torch.zeros(len(points), len(self.rows), self._numbers(model), dtype=torch.float64)
        statistics, weights = self.processes.summed([found, weights])
        return statistics, weights

    def _numbers(self, model: nn.Module) -> int:
        """How many statistics a row has."""
        batch: dict[str, Any] = self.collate(self.rows.__getitems__([0]))
        there = {name: values.to(self.compute.device) for name, values in batch.items()}
        labels = there.pop("labels")
        return self.likelihood.statistics(model(**there).logits, labels)[0].shape[1]
