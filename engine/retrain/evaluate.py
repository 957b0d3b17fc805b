"""The evaluation after a training: one pass over the rows of each split, in the precision of the weights."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor, nn

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.measure.judged import calibrated
from autolora.engine.measure.likelihood import Categorical, Likelihood, likelihood_of
from autolora.engine.measure.passes import Passes
from autolora.engine.measure.rows import Rows, numbered
from autolora.engine.run.context import Context
from autolora.engine.terminal.bar import Bar
from autolora.problems.data import Data
from autolora.problems.machine.compute import Compute, on_device
from autolora.problems.tasks import Collate
from autolora.problems.tasks.labels import IGNORED

UNUSED = "unused"
"""The name of the training rows that task.train_rows left unused."""


class NotFinite(UserError):
    """The loss of a training is infinite or NaN."""


def not_finite_words(what: str, config: RunConfig) -> str:
    """The message for a loss that is infinite or NaN; `what` says which loss."""
    return (
        f"--retrain.learning_rate: {what} is not finite at rate {config.retrain.rate:g}; try a lower rate, "
        f"--precision fp32 or --retrain.gradient_clipping 1, with --stage retrain --overwrite"
    )


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


@dataclass(frozen=True)
class Evaluated:
    """The metrics on the evaluation split, the text or the table of the predictions (for tasks that keep them), the
    log loss of the rows of all splits at a fitted temperature (None if too few rows have labels), the loss of every
    row (with `retrain.row_losses`), the number of rows of the evaluation split, and the seconds that all this took."""

    metrics: dict[str, float]
    predictions: str | None = None
    predicted_rows: pd.DataFrame | None = None
    calibrated_loss: float | None = None
    row_losses: pd.DataFrame | None = None
    rows: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Split:
    """The evaluation of one split."""

    metrics: dict[str, float]
    measured: Measured
    predictions: str = ""
    predicted_rows: pd.DataFrame | None = None


def evaluate(model: nn.Module, run: Context, data: Data) -> Evaluated:
    """Evaluates all rows of each split once.

    Raises NotFinite when the loss of a split is not finite, and Interrupted if a signal asked to stop.
    """
    began = time.perf_counter()
    kind = _by_outputs if run.task.reads_outputs else _by_tokens
    splits = {name: kind(model, run, data, name, rows) for name, rows in data.evaluation.items()}
    if not all(np.isfinite(split.metrics["loss"]) for split in splits.values()):
        raise NotFinite(not_finite_words("the loss on the evaluation rows", run.config))
    known = {name: split.measured for name, split in splits.items()}
    judged = calibrated(likelihood_of(run.task), *_together(known), _sources(data.evaluation))
    tables = {name: split.predicted_rows for name, split in splits.items() if split.predicted_rows is not None}
    named = [table.assign(split=name) if len(tables) > 1 else table for name, table in tables.items()]
    return Evaluated(
        run.task.combine({name: split.metrics for name, split in splits.items()}),
        "".join(split.predictions for split in splits.values()) or None,
        pd.concat(named, ignore_index=True) if len(tables) == len(splits) else None,
        None if judged is None else judged.loss,
        row_losses(model, run, data, known) if run.config.retrain.row_losses else None,
        sum(map(len, data.evaluation.values())),
        time.perf_counter() - began,
    )


def _by_outputs(model: nn.Module, run: Context, data: Data, name: str, rows: Dataset) -> _Split:
    """The evaluation of a task whose metrics are computed from the model's outputs."""
    outputs, labels, loss = outputs_of(model, run, data.collate, rows)
    found = likelihood_of(run.task).statistics(torch.from_numpy(outputs).float(), torch.from_numpy(labels))
    raw = data.raw.get(name)
    return _Split(
        run.task.metrics(outputs, labels, rows) | {"loss": loss},
        Measured(*(each.double() for each in found)),
        run.task.predictions(outputs, labels, rows) or "",
        None if raw is None else run.task.predicted_rows(outputs, raw),
    )


def _by_tokens(model: nn.Module, run: Context, data: Data, name: str, rows: Dataset) -> _Split:
    """The evaluation of a language model."""
    found = tokens(model, run, data.collate, rows)
    return _Split(run.task.token_metrics(found.loss, found.accuracy) | {"loss": found.loss}, found)


@torch.no_grad()
def outputs_of(model: Any, run: Context, collate: Collate, rows: Dataset) -> tuple[np.ndarray, np.ndarray, float]:
    """The logits and labels of each row, padded by -100 to the longest, and the mean loss over all labels.

    Rows of similar length share a batch, the longest first, so that a batch that does not fit into memory fails at
    the start. Each of several processes computes all rows."""
    model.eval()
    order, size = np.argsort(-np.asarray(rows["length"]), kind="stable"), run.config.evaluation_batch
    logits: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    total, count = 0.0, 0
    with Bar("evaluate", len(rows)) as bar:
        for start in range(0, len(rows), size):
            if run.processes.size == 1:
                run.stop.check()
            batch = on_device(collate(rows.__getitems__(order[start : start + size].tolist())), run.compute.device)
            output, own = model(**batch), batch["labels"]
            labelled = own.numel() if own.dim() == 1 else int((own != IGNORED).sum())
            if labelled:  # the mean over no label is NaN
                total, count = total + float(output.loss) * labelled, count + labelled
            logits += list(output.logits.float().cpu().numpy())
            labels += list(own.cpu().numpy())
            bar.step(start + len(own))
    back = np.argsort(order)
    return _padded([logits[i] for i in back]), _padded([labels[i] for i in back]), total / count if count else np.nan


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of words [words, ...] as one array, with -100 behind the shorter ones; other rows one upon the other."""
    if not rows[0].ndim:
        return np.stack(rows)
    longest = max(map(len, rows))
    ends = [[(0, longest - len(row)), *[(0, 0)] * (row.ndim - 1)] for row in rows]
    return np.stack([np.pad(row, end, constant_values=IGNORED) for row, end in zip(rows, ends, strict=True)])


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


def row_losses(model: nn.Module, run: Context, data: Data, known: Mapping[str, Measured]) -> pd.DataFrame:
    """A table with one row for each row of the evaluation splits and of `data.unused`, by which two trainings are
    compared row by row.

    Columns: `split`; `row`, its number in the split; `source`, a number that is the same for all rows of one
    input (the references of a record, copies of a text); `loss` in nats, summed over its labels; `weight`, the number
    of its labels.

    The rows of every other source are one half. The loss of each half is taken at the temperature that fits the other
    half best. `known`: the splits that are measured already. Raises UserError if a half has no label.
    """
    parts, found = dict(data.evaluation), dict(known)
    if data.unused is not None:
        parts[UNUSED] = data.unused
        found[UNUSED] = measured(model, run, data.collate, data.unused, likelihood_of(run.task))
    statistics, weights = _together(found)
    sources = _sources(parts)
    judged = calibrated(likelihood_of(run.task), statistics, weights, sources)
    if judged is None:
        raise UserError(
            f"--retrain.row_losses: one half of the {len(weights)} held-out rows has no label, and cannot choose "
            f"the temperature of the other half; allowed: more rows to evaluate on"
        )
    places = [(name, row) for name, rows in parts.items() for row in range(len(rows))]
    table = pd.DataFrame(places, columns=["split", "row"])
    return table.assign(source=sources, loss=judged.losses.numpy(), weight=weights.numpy())


def _together(found: Mapping[str, Measured]) -> tuple[Tensor, Tensor]:
    statistics, weights = zip(*((each.statistics, each.weights) for each in found.values()), strict=True)
    return torch.cat(statistics), torch.cat(weights)


def _sources(parts: Mapping[str, Dataset]) -> np.ndarray:
    """The number of each row's input."""
    return numbered([group for rows in parts.values() for group in rows["group"][:]])
