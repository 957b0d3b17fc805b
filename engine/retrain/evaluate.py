"""The evaluation of a model: one pass over the rows of each split, in the precision of the weights, gives predictions,
metrics, and the loss of every row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor, nn

from autolora.configs.errors import UserError
from autolora.engine.measure.likelihood import (
    Gaussian,
    Likelihood,
    Rows,
    calibrated,
    likelihood_of,
    numbered,
)
from autolora.engine.measure.measure import Passes
from autolora.engine.run.context import Context
from autolora.engine.terminal.bar import Bar
from autolora.problems.data import Data
from autolora.problems.machine.compute import Compute
from autolora.problems.tasks import Task

UNUSED = "unused"
"""The name of the training rows that task.train_rows left unused."""


class NotFinite(UserError):
    """A loss is infinite or NaN; `what` says which."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"--retrain.learning_rate: {what} is not finite; try a lower rate, --precision fp32 or "
            f"--retrain.gradient_clipping 1, with --stage retrain --overwrite"
        )


@dataclass(frozen=True)
class Evaluated:
    """`metrics`: of the evaluation rows, with their mean `loss`; `predicted_rows`: the table of the predictions, for
    tasks that have one; `row_losses`: see `_row_losses`."""

    metrics: dict[str, float]
    predicted_rows: pd.DataFrame | None = None
    row_losses: pd.DataFrame | None = None


Statistics = tuple[Tensor, Tensor, np.ndarray]
"""The statistics of a likelihood for each row [rows, numbers], the number of labels of each row [rows], and the task's
predictions [rows, numbers]."""


def evaluate(model: nn.Module, run: Context, data: Data) -> Evaluated:
    """Evaluates all rows of each split, and `data.unused`, once. Raises NotFinite when the loss of a split is not
    finite, Interrupted in a single process when a signal asked to stop."""
    task, processes, batch = run.task, run.processes, run.config.evaluation_batch
    likelihood = likelihood_of(task)

    def statistics(rows: Dataset) -> Statistics:
        with_predictions: Any = _WithPredictions(likelihood, task, max(rows["length"][:]))
        plain = Compute(run.compute.device, bf16=False)
        check = run.stop.check if processes.size == 1 else lambda: None
        with Bar("evaluate", len(rows)) as bar:
            passes = Passes(Rows.of(rows, data.collate), with_predictions, plain, processes, batch, check)
            found, weights = passes.telling(bar.step, bar.grow).statistics(model)
        return found[:, : likelihood.width], weights, found[:, likelihood.width :].numpy()

    parts = {**data.evaluation, **({} if data.unused is None else {UNUSED: data.unused})}
    found = {name: statistics(rows) for name, rows in parts.items()}
    metrics: dict[str, dict[str, float]] = {}
    tables: list[pd.DataFrame] = []
    for name, rows in data.evaluation.items():
        of_rows, weights, predicted = found[name]
        loss = mean_loss(likelihood, of_rows, weights)
        if not np.isfinite(loss):
            raise NotFinite("the loss on the evaluation rows")
        metrics[name] = task.metrics(predicted, rows, loss) | {"loss": loss}
        table = task.predictions(predicted, rows)
        if table is not None:
            tables.append(table.assign(split=name) if len(data.evaluation) > 1 else table)
    predictions = pd.concat(tables, ignore_index=True) if tables else None
    return Evaluated(_together(metrics), predictions, _row_losses(likelihood, parts, found))


@dataclass(frozen=True)
class _WithPredictions:
    """A likelihood whose statistics have the task's predictions behind them: at most as many as a row has tokens, or
    two."""

    likelihood: Likelihood
    task: Task
    tokens: int

    @property
    def width(self) -> int:
        return self.likelihood.width + max(2, self.tokens)

    def labelled_positions(self, labels: Tensor) -> Tensor | None:
        return self.likelihood.labelled_positions(labels)

    def statistics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # First: the likelihood may overwrite logits of its own type.
        predicted = self.task.predicted(logits, labels).float()
        statistics, weights = self.likelihood.statistics(logits, labels)
        found = torch.cat([statistics, predicted], dim=1)
        # As wide as the longest row, however long those of this batch are padded.
        return nn.functional.pad(found, (0, self.width - found.shape[1])), weights


def mean_loss(likelihood: Likelihood, statistics: Tensor, weights: Tensor) -> float:
    """The mean loss over all labels, in nats; of numbers the mean squared error. As `Likelihood.statistics` gives
    them: `statistics` [rows, numbers], `weights` [rows]."""
    sums = statistics if isinstance(likelihood, Gaussian) else likelihood.losses(statistics, 1.0, weights)
    return float(sums.sum() / weights.sum())


def _together(by_split: Mapping[str, dict[str, float]]) -> dict[str, float]:
    """The metrics of the evaluation split; of several, their means and those of each, such as accuracy_matched of the
    split validation_matched."""
    first, *others = by_split.values()
    metrics = {name: sum(found[name] for found in by_split.values()) / len(by_split) for name in first}
    for split, found in by_split.items() if others else ():
        metrics |= {f"{name}_{split.rsplit('_', 1)[-1]}": found[name] for name in first if name != "loss"}
    return metrics


def _row_losses(
    likelihood: Likelihood, parts: Mapping[str, Dataset], found: Mapping[str, Statistics]
) -> pd.DataFrame | None:
    """A table with one row for each row of these splits, by which two trainings are compared row by row; None if one
    half of the rows has no label.

    Columns: `split`; `row`, its number in the split; `source`, a number that is the same for all rows of one input
    (the references of a record, copies of a text); `loss` in nats, summed over its labels; `weight`, the number of its
    labels. The rows of every other input are one half, and the loss of each half is taken at the temperature that fits
    the other half best."""
    inputs = numbered([group for rows in parts.values() for group in rows["group"][:]])
    statistics = torch.cat([found[name][0] for name in parts])
    judged = calibrated(likelihood, statistics, torch.cat([found[name][1] for name in parts]), inputs)
    if judged is None:
        return None
    places = [(name, row) for name, rows in parts.items() for row in range(len(rows))]
    table = pd.DataFrame(places, columns=["split", "row"])
    return table.assign(source=inputs, loss=judged.losses.numpy(), weight=judged.weights.numpy())
