"""The evaluation after a training: the task's metrics, the losses, and the text of the predictions."""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from autolora.engine.measure.judged import calibrated
from autolora.engine.measure.likelihood import likelihood_of
from autolora.engine.measure.rows import numbered
from autolora.engine.retrain.callbacks import NotFinite, not_finite_words
from autolora.engine.retrain.held_out import Measured, tokens
from autolora.engine.retrain.row_losses import row_losses
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.context import Context
from autolora.problems.data import Data
from autolora.problems.tasks.inputs import inputs_of


@dataclass(frozen=True)
class Evaluated:
    """The metrics on the evaluation split, the text or the table of the predictions (for tasks that keep them), the
    log loss of the rows of all splits at a fitted temperature (None if too few rows have labels), the loss of every
    row (with `retrain.row_losses`), the number of rows of the evaluation split, and the seconds that all this took."""

    metrics: dict[str, float]
    predictions: str | None
    predicted_rows: pd.DataFrame | None
    calibrated_loss: float | None
    row_losses: pd.DataFrame | None
    rows: int
    seconds_evaluation: float


@dataclass(frozen=True)
class _Split:
    """The evaluation of one split."""

    metrics: dict[str, float]
    measured: Measured
    predictions: str = ""
    predicted_rows: pd.DataFrame | None = None


def evaluate(trainer: RetrainTrainer, run: Context, data: Data) -> Evaluated:
    """Evaluates all rows of each split once.

    Raises NotFinite when the loss of a split is not finite, and Interrupted if a signal asked to stop.
    """
    began = time.perf_counter()
    model = trainer.accelerator.unwrap_model(trainer.model)
    splits = {
        name: _by_outputs(trainer, run, rows, data.raw.get(name))
        if run.task.reads_outputs
        else _by_tokens(model, run, data, rows)
        for name, rows in data.evaluation.items()
    }
    if not all(np.isfinite(split.metrics["loss"]) for split in splits.values()):
        raise NotFinite(not_finite_words("the loss on the evaluation rows", run.config))
    known = {name: split.measured for name, split in splits.items()}
    statistics = torch.cat([split.statistics for split in known.values()])
    weights = torch.cat([split.weights for split in known.values()])
    sources = numbered([one for rows in data.evaluation.values() for one in inputs_of(rows, range(len(rows)))])
    judged = calibrated(likelihood_of(run.task), statistics, weights, sources)
    return Evaluated(
        run.task.combine({name: split.metrics for name, split in splits.items()}),
        "".join(split.predictions for split in splits.values()) or None,
        _together({name: split.predicted_rows for name, split in splits.items()}),
        None if judged is None else judged.loss,
        row_losses(model, run, data, known) if run.config.retrain.row_losses else None,
        sum(map(len, data.evaluation.values())),
        time.perf_counter() - began,
    )


def _together(tables: dict[str, pd.DataFrame | None]) -> pd.DataFrame | None:
    """One table of the predictions of all splits, with a column `split` if there are several; None if a split has
    none."""
    known = {name: table for name, table in tables.items() if table is not None}
    if len(known) < len(tables):
        return None
    named = [table.assign(split=name) if len(known) > 1 else table for name, table in known.items()]
    return pd.concat(named, ignore_index=True)


def _by_outputs(trainer: RetrainTrainer, run: Context, rows: Dataset, raw: Dataset | None) -> _Split:
    """The evaluation of a task whose metrics are computed from the model's outputs."""
    output = trainer.predict(rows)
    outputs, labels = np.asarray(output.predictions), np.asarray(output.label_ids)
    loss = (output.metrics or {})["eval_loss"]
    statistics, weights = likelihood_of(run.task).statistics(
        torch.from_numpy(outputs).float(), torch.from_numpy(labels)
    )
    return _Split(
        run.task.metrics(outputs, labels, rows) | {"loss": loss},
        Measured(statistics.double(), weights.double()),
        run.task.predictions(outputs, labels, rows) or "",
        None if raw is None else run.task.predicted_rows(outputs, raw),
    )


def _by_tokens(model: nn.Module, run: Context, data: Data, rows: Dataset) -> _Split:
    """The evaluation of a language model."""
    found = tokens(model, run, data.collate, rows)
    return _Split(run.task.token_metrics(found.loss, found.accuracy) | {"loss": found.loss}, found)
