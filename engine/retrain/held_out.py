"""One pass of a trained model over held-out rows, in the precision of its weights."""

from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import Tensor, nn

from autolora.engine.measure.likelihood import Categorical, Likelihood
from autolora.engine.measure.passes import Passes
from autolora.engine.measure.rows import Rows
from autolora.engine.run.context import Context
from autolora.engine.terminal.bar import Bar
from autolora.problems.machine.compute import Compute
from autolora.problems.tasks import Collate
from autolora.problems.tasks.labels import IGNORED


@dataclass(frozen=True)
class Measured:
    """The statistics of a likelihood for each row [rows, numbers], and the number of labels of each row [rows]."""

    statistics: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Tokens(Measured):
    """A language model's pass. `loss`: the mean over all labels, in nats; `accuracy`: the share of the labels that
    have the largest logit. Both are NaN if there are no labels."""

    loss: float
    accuracy: float


class _WithHits(Categorical):
    """The statistics of a language model's rows; their last number counts the row's labels that have the largest
    logit."""

    def __init__(self) -> None:
        super().__init__(shifted=True)

    @property
    def width(self) -> int:
        return super().width + 1

    def statistics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        targets = labels[:, 1:]
        # The last logits predict nothing; cutting them off first would copy the logits.
        hits = (logits.argmax(dim=-1)[:, :-1] == targets) & (targets != IGNORED)
        statistics, weights = super().statistics(logits, labels)
        return torch.cat([statistics, hits.sum(dim=1, keepdim=True).to(statistics)], dim=1), weights


def measured(model: nn.Module, run: Context, collate: Collate, rows: Dataset, likelihood: Likelihood) -> Measured:
    """The statistics of these rows. Raises Interrupted if a signal asked to stop; the resumed run measures again."""
    compute, batch = Compute(run.compute.device, bf16=False), run.config.evaluation_batch
    with Bar("evaluate", len(rows)) as bar:
        check = run.stop.check if run.processes.size == 1 else lambda: None
        passes = Passes(Rows.of(rows, collate), likelihood, compute, run.processes, batch, check)
        return Measured(*passes.telling(bar.step, bar.grow).statistics(model))


def tokens(model: nn.Module, run: Context, collate: Collate, rows: Dataset) -> Tokens:
    """A language model's loss and accuracy on these rows, whose logits are not kept, as a vocabulary is large."""
    likelihood = _WithHits()
    found = measured(model, run, collate, rows, likelihood)
    statistics, hits, labels = found.statistics[:, :-1], found.statistics[:, -1], found.weights.sum()
    losses = likelihood.losses(statistics, 1.0, found.weights)
    return Tokens(statistics, found.weights, float(losses.sum() / labels), float(hits.sum() / labels))
