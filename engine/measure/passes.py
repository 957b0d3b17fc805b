"""Passes of rows through a model: statistics of a likelihood, moments of LoRA, and integrals of its gates' slopes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, Self

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from autolora.configs.errors import UserError
from autolora.engine.cut.basis import Basis, balanced_basis
from autolora.engine.measure.gated import Cut, Gated
from autolora.engine.measure.likelihood import Likelihood
from autolora.engine.measure.rows import Rows
from autolora.engine.measure.shares import Shares
from autolora.problems.gates import moments
from autolora.problems.machine.compute import Compute, on_device
from autolora.problems.machine.processes import ALONE, Processes

WITH_GRADIENT = 2
"""A pass with a gradient costs about as much as this many passes without: weights need no gradient, only the gates."""

Batch = tuple[list[int], dict[str, Any], Tensor]
"""The numbers of a batch's rows, the model's inputs, and the labels."""


def _nothing(rows: int) -> None:
    return


@dataclass(frozen=True)
class Moments:
    """The second moments of LoRA in each fold: sums over tokens of h h' and of u u' [folds, layers, k, k].

    h = A x are a layer's inputs as A shows them, and u is the slope of the loss with respect to h."""

    inputs: Tensor
    slopes: Tensor

    def bases(self, gated: Gated, without: int | None = None) -> list[Basis]:
        """The balanced basis of each layer by the rows of all folds but `without` (None: by all rows)."""
        used = [fold for fold in range(len(self.inputs)) if fold != without] or [0]
        pairs = zip(gated.gates.factors(), gated.ranks, strict=True)
        return [
            balanced_basis(
                a.detach(),
                b.detach(),
                *(of[used, layer, :rank, :rank].sum(dim=0) for of in (self.inputs, self.slopes)),
            )
            for layer, ((a, b), rank) in enumerate(pairs)
        ]


@dataclass(frozen=True)
class Passes:
    """How rows go through a model: dropout is off, autocast is on.

    `batch`: rows of similar length that go through at a time, if no gradient is taken. Several processes divide the
    batches among themselves, and each gets the results of all rows. `check` may raise, to stop. Progress is counted in
    rows times passes, where a pass with a gradient counts as WITH_GRADIENT passes: `advance` is told what was done,
    `extend` what has to be done beyond the plan.
    """

    rows: Rows
    likelihood: Likelihood
    compute: Compute
    processes: Processes = ALONE
    batch: int = 64
    check: Callable[[], None] = lambda: None
    advance: Callable[[int], None] = field(default=_nothing)
    extend: Callable[[int], None] = field(default=_nothing)

    def telling(self, step: Callable[[int], None], extend: Callable[[int], None]) -> Self:
        """The same passes with a bar: `step` is told how much is done, `extend` how much more there will be to do."""
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count * self.processes.size
            step(done)

        return replace(self, advance=advance, extend=extend)

    def statistics(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """The likelihood's statistics of every row [rows, numbers], and the rows' weights [rows]; on the CPU."""
        model.eval()
        found, weights = self._zeros()
        for batch in self._loaded(self.rows.by_length(np.arange(len(self.rows)), self.batch)):
            self._measure(model, batch, found, weights)
        statistics, counts = self.processes.summed([found, weights])
        return statistics, counts

    def of_cuts(self, gated: Gated, folds: np.ndarray, cuts: Sequence[Sequence[Cut]]) -> tuple[list[Tensor], Tensor]:
        """The statistics of every row [rows, numbers] for each of `cuts`, and the rows' weights [rows].

        A cut is given for each fold: what the other folds chose for it."""
        gated.model.eval()
        pairs = [self._zeros() for _ in cuts]
        for fold in range(int(folds.max()) + 1):
            batches = list(self._loaded(self.rows.by_length(np.flatnonzero(folds == fold), self.batch)))
            for of_folds, (found, weights) in zip(cuts, pairs, strict=True):
                with gated.at(of_folds[fold]):
                    for batch in batches:
                        self._measure(gated.model, batch, found, weights)
        *statistics, weights = self.processes.summed([*(found for found, _ in pairs), pairs[0][1]])
        return statistics, weights

    def moments(self, gated: Gated, folds: np.ndarray, temperature: float, batch: int) -> Moments:
        """The moments of the whole model's LoRA, as it lies, `batch` rows at a time.

        u is drawn so that its moment is that of the Gauss-Newton matrix of the loss (`Likelihood.drawn_slope`). Tokens
        that the loss does not depend on, such as padding, do not count: there u is 0."""
        count, layers, k = int(folds.max()) + 1, len(gated.ranks), gated.gates.k
        inputs, slopes = (torch.zeros(count, layers, k, k, dtype=torch.float64) for _ in range(2))
        batches = [one for fold in range(count) for one in self.rows.by_length(np.flatnonzero(folds == fold), batch)]
        gated.model.eval()
        with _requiring_only(gated.model, ()):
            for number, (own, given, labels) in self._numbered(batches):
                generator = torch.Generator().manual_seed(number)
                with gated.gates.seen() as seen:
                    with self.compute.autocast():
                        logits, told = self.labelled_logits(gated.model, given, labels)
                    value = self.likelihood.drawn_slope(logits, told, temperature, generator)
                    forward = list(seen)  # a block that is computed again in the backward pass is seen once more
                    found = torch.autograd.grad(value, [h for _, h in forward], allow_unused=True)
                for (name, h), u in zip(forward, found, strict=True):
                    if u is not None:
                        place = folds[own[0]], gated.gates.names.index(name), slice(h.shape[-1]), slice(h.shape[-1])
                        of_inputs, of_slopes = moments(h.detach(), u)
                        inputs[place] += of_inputs
                        slopes[place] += of_slopes
                self.advance(len(own) * WITH_GRADIENT)
        inputs, slopes = self.processes.summed([inputs, slopes])
        return Moments(inputs, slopes)

    def shares(
        self, gated: Gated, folds: np.ndarray, temperature: float, batch: int, nodes: int, least: int
    ) -> Shares:  # fmt: skip
        """The shares of every component and of the head, from at least `least` random draws of whole groups.

        s_lj = - integral over t in 0..1 of dL_val/dg_lj, where all gates are t        (the Aumann-Shapley value)

        by the Gauss-Legendre rule with this many `nodes`, at most `batch` rows at a time."""
        places, parts = np.polynomial.legendre.leggauss(nodes)
        line = list(zip(((places + 1) / 2).tolist(), (parts / 2).tolist(), strict=True))
        draws = self.rows.draws(folds, batch, least)
        sums = torch.zeros(len(draws), len(gated.ranks), gated.gates.k, dtype=torch.float64)
        weights, head = torch.zeros(len(draws), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        parts_of = [(draw, rows[i : i + batch]) for draw, rows in enumerate(draws) for i in range(0, len(rows), batch)]
        gated.model.eval()
        with _requiring_only(gated.model, gated.heads.parameters):
            for number, loaded in self._numbered([rows for _, rows in parts_of]):
                draw, _ = parts_of[number]
                slopes, of_head, counted = self._integral(gated, loaded, temperature, line)
                sums[draw] -= slopes
                weights[draw] += counted
                head -= of_head
                self.advance(len(loaded[0]) * WITH_GRADIENT * nodes)
        sums, weights, head = self.processes.summed([sums, weights, head])
        return Shares(sums, weights, folds[[rows[0] for rows in draws]], float(head / weights.sum()))

    def _integral(
        self, gated: Gated, batch: Batch, temperature: float, line: Sequence[tuple[float, float]]
    ) -> tuple[Tensor, float, float]:
        """The integrals of a batch's slopes [layers, k] and of the head's, and the batch's labels."""
        _, given, labels = batch
        parameters = gated.heads.parameters
        sums, head = torch.zeros(len(gated.ranks), gated.gates.k, dtype=torch.float64), 0.0
        for t, part in line:
            values = torch.full(sums.shape, t, device=self.compute.device, requires_grad=True)
            with gated.heads.at(t), gated.gates.open(values):
                with self.compute.autocast():
                    logits, told = self.labelled_logits(gated.model, given, labels)
                loss = self.likelihood.loss(logits, told, temperature)
                by_gates, *by_head = torch.autograd.grad(loss, [values, *parameters], allow_unused=True)
            sums += part * by_gates.cpu().double()
            head += part * gated.heads.slope(by_head)
        return sums, head, float(self.likelihood.weights(logits, told).sum())

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The summed loss of a batch. Scalar."""
        given = {name: value for name, value in batch.items() if name != "labels"}
        return self.likelihood.loss(*self.labelled_logits(model, given, batch["labels"]), 1.0)

    def labelled_logits(self, model: nn.Module, inputs: dict[str, Any], labels: Tensor) -> tuple[Tensor, Tensor]:
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

    @torch.no_grad()
    def _measure(self, model: nn.Module, batch: Batch, found: Tensor, weights: Tensor) -> None:
        """Writes the statistics and weights of a batch's rows to their places."""
        numbers, given, labels = batch
        with self.compute.autocast():
            logits, told = self.labelled_logits(model, given, labels)
        sums, counts = self.likelihood.statistics(logits, told)
        found[numbers], weights[numbers] = sums.cpu().double(), counts.cpu().double()
        self.advance(len(numbers))

    def _zeros(self) -> tuple[Tensor, Tensor]:
        shape = (len(self.rows), self.likelihood.width)
        return torch.zeros(shape, dtype=torch.float64), torch.zeros(len(self.rows), dtype=torch.float64)

    def _loaded(self, batches: Sequence[list[int]]) -> Iterator[Batch]:
        return (batch for _, batch in self._numbered(batches))

    def _numbered(self, batches: Sequence[list[int]]) -> Iterator[tuple[int, Batch]]:
        """This process's batches on the device, with their numbers."""
        for number in range(self.processes.rank, len(batches), self.processes.size):
            self.check()
            batch = on_device(self.rows.batch(batches[number]), self.compute.device)
            labels = batch.pop("labels")
            if len(labels) != len(batches[number]):
                raise UserError("a batch needs a row of labels for each of its rows; allowed: rows without packing")
            yield number, (batches[number], batch, labels)


@contextmanager
def _requiring_only(model: nn.Module, kept: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside the `with` block no weight requires a gradient but those in `kept`, so that backward passes compute
    nothing else beside the gates' gradients."""
    same = {id(weight) for weight in kept}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in same]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
