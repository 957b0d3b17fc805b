"""How held-out rows go through a model: whole, or with its LoRA cut, a batch at a time."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Self

import numpy as np
import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from torch import Tensor, nn

from autolora.configs.errors import UserError
from autolora.engine.measure.likelihood import Likelihood, likelihood_of, mean_loss
from autolora.engine.measure.lora import Cut, Lora, call_with, evaluating
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.rows import Rows, evenly
from autolora.problems.tasks.base import Loss
from autolora.problems.tasks.scoring import Scoring

WITH_GRADIENT = 2
"""A pass with a gradient costs about as much as this many passes without: weights need no gradient,
only the gates."""


@dataclass(frozen=True)
class Loaded:
    """A batch on the device: its number, the numbers of its rows, the model's inputs, the
    labels."""

    number: int
    rows: list[int]
    inputs: dict[str, Any]
    labels: Tensor


@dataclass(frozen=True)
class Passes:
    """How rows go through a model: dropout is off, autocast is on.

    `batch`: rows of similar length that go through at a time, if no gradient is taken. Several
    processes divide the batches among themselves, and each gets the results of all rows. `check`
    may raise, to stop. Progress is counted in rows times passes, where a pass with a gradient
    counts as WITH_GRADIENT passes: `advance` is told what was done, `extend` what has to be done
    beyond the plan.
    """

    rows: Rows
    likelihood: Likelihood
    compute: Compute
    processes: Processes = ALONE
    batch: int = 64
    check: Callable[[], None] = lambda: None
    advance: Callable[[int], None] = lambda count: None
    extend: Callable[[int], None] = lambda count: None

    @classmethod
    def of(cls, rows: Rows, scoring: Scoring, world: World, batch: int) -> Self:
        """How a stage sends these rows through a model, `batch` at a time without a gradient."""
        likelihood = likelihood_of(scoring)
        return cls(rows, likelihood, world.compute, world.processes, batch, world.check)

    def telling(self, step: Callable[[int], None], extend: Callable[[int], None]) -> Self:
        """The same passes with a bar: `step` is told how much is done, `extend` how much more there
        will be to do."""
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count * self.processes.size
            step(done)

        return replace(self, advance=advance, extend=extend)

    def batches(self, batches: Sequence[list[int]]) -> Iterator[Loaded]:
        """This process's batches on the device."""
        for number in range(self.processes.rank, len(batches), self.processes.size):
            self.check()
            batch = send_to_device(self.rows.batch(batches[number]), self.compute.device)
            labels = batch.pop("labels")
            if len(labels) != len(batches[number]):
                raise UserError(
                    "a batch needs a row of labels for each of its rows; allowed: rows "
                    "without packing"
                )
            yield Loaded(number, batches[number], batch, labels)

    def statistics(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """The likelihood's statistics of every row [rows, numbers], and the rows' weights [rows];
        on the CPU."""
        statistics, weights = self._zeros()
        batches = self.rows.by_length(np.arange(len(self.rows)), self.batch)
        with evaluating(model):
            for loaded in self.batches(batches):
                self._write(model, loaded, statistics, weights)
        statistics, weights = self.processes.summed([statistics, weights])
        return statistics, weights

    def of_cuts(
        self, lora: Lora, folds: np.ndarray, cuts: Sequence[Sequence[Cut]]
    ) -> tuple[list[Tensor], Tensor]:
        """The statistics of every row [rows, numbers] for each of `cuts`, and the rows' weights
        [rows].

        A cut is given for each fold: what the other folds chose for it."""
        model = lora.model
        pairs = [self._zeros() for _ in cuts]
        with evaluating(model):
            for fold in range(int(folds.max()) + 1):
                rows = np.flatnonzero(folds == fold)
                batches = list(self.batches(self.rows.by_length(rows, self.batch)))
                for of_folds, (statistics, weights) in zip(cuts, pairs, strict=True):
                    overrides = lora.overrides(of_folds[fold])
                    for loaded in batches:
                        call_with(model, overrides, self._write, model, loaded, statistics, weights)
        sums = [statistics for statistics, _ in pairs]
        *found, weights = self.processes.summed([*sums, pairs[0][1]])
        return found, weights

    @torch.no_grad()
    def other_loss(self, model: nn.Module, loss: Loss) -> str:
        """How the mean `loss` of some rows differs from their mean log loss by the model's logits
        (of numbers: from the mean squared error), in words; "" if it does not, or if the model
        gives none.

        The two differ with class weights, label smoothing, a focal loss or a CRF."""
        batch = self.rows.batch(evenly(len(self.rows), self.batch))
        batch = send_to_device(batch, self.compute.device)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with evaluating(model):
            given: Any = loss(model, batch)
            logits, labels = self.labelled_logits(model, inputs, batch["labels"])
        eps = torch.finfo(logits.dtype).eps
        statistics, weights = self.likelihood.statistics(logits, labels)
        if given is None or not weights.sum():
            return ""
        by_logits = mean_loss(self.likelihood, statistics, weights)
        tolerance = 4 * eps * max(1.0, abs(by_logits))
        if math.isclose(given, by_logits, rel_tol=1e-4, abs_tol=tolerance):
            return ""
        return (
            f"the loss of {len(batch['labels'])} rows is {float(given):.6g}, but their mean log "
            f"loss by the logits is {by_logits:.6g}"
        )

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The summed loss of a batch. Scalar."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return self.likelihood.loss(*self.labelled_logits(model, inputs, batch["labels"]), 1.0)

    def labelled_logits(
        self, model: nn.Module, inputs: dict[str, Any], labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The model's logits and their labels.

        A language model computes only logits that predict a label, if its forward has
        `logits_to_keep`: logits of the prompts are not needed, and a vocabulary is large."""
        places = self.likelihood.labelled_positions(labels)
        whole = model.get_base_model() if isinstance(model, PeftModel) else model
        options = signature(whole.forward).parameters
        asked: dict[str, Any] = dict(inputs)
        if "use_cache" in options:
            # No token is generated, so that no cache is needed; RWKV's cannot be differentiated.
            asked = {"use_cache": False, **asked}
        if places is None or not len(places) or "logits_to_keep" not in options:
            return model(**asked).logits, labels
        # One more position is kept, as the likelihood drops the last one, which has no label after
        # it.
        kept = torch.cat([places, places[-1:] + 1])
        logits = model(**asked, logits_to_keep=kept).logits
        return logits, torch.cat([labels[:, :1], labels[:, places + 1]], dim=1)

    @torch.no_grad()
    def _write(self, model: nn.Module, loaded: Loaded, statistics: Tensor, weights: Tensor) -> None:
        """Writes the statistics and weights of a batch's rows to their places."""
        with self.compute.autocast():
            logits, labels = self.labelled_logits(model, loaded.inputs, loaded.labels)
        sums, counts = self.likelihood.statistics(logits, labels)
        statistics[loaded.rows] = sums.cpu().double()
        weights[loaded.rows] = counts.cpu().double()
        self.advance(len(loaded.rows))

    def _zeros(self) -> tuple[Tensor, Tensor]:
        rows = len(self.rows)
        statistics = torch.zeros(rows, self.likelihood.width, dtype=torch.float64)
        return statistics, torch.zeros(rows, dtype=torch.float64)
