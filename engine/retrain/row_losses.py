"""The log loss of every held-out row, by which two trainings are compared row by row."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from configs.errors import UserError
from configs.rules import evaluation_batch
from engine.answer.curve import crossed
from engine.answer.likelihood import likelihood_of
from engine.answer.sample import Sample
from engine.run.context import Context
from problems.data import Data
from problems.machine.compute import Compute

UNUSED = "unused"
"""The name of the training rows that task.train_rows left unused."""


def row_losses(model: nn.Module, run: Context, data: Data) -> pd.DataFrame:
    """A row for each row of the evaluation splits and of `data.unused`: its split, its number there, its loss (nats,
    summed over its labels), its weight (the number of its labels) and the number of its source: rows that are written
    for one input (the references of a record) have one source, others each their own.

    Every second row is judged at the temperature that fits the others best. Computed in the weights' own precision.
    Raises UserError where one half of the rows has no label.
    """
    parts = dict(data.evaluation) | ({} if data.unused is None else {UNUSED: data.unused})
    likelihood, compute = likelihood_of(run.task), Compute(run.compute.device, bf16=False)
    names: list[str] = []
    numbers: list[int] = []
    sources: list[Any] = []
    found: list[Any] = []
    for name, rows in parts.items():
        sample = Sample(
            rows, data.collate, likelihood, compute, run.stop, run.processes, batch=evaluation_batch(run.config)
        )
        statistics, weights = sample.statistics(model)
        found.append((statistics[0], weights))
        sources += (
            rows["source"][:] if "source" in rows.column_names else [(name, number) for number in range(len(rows))]
        )
        names += [name] * len(rows)
        numbers += range(len(rows))
    statistics, weights = (torch.cat(of) for of in zip(*found, strict=True))
    first = np.arange(len(weights)) % 2 == 0
    if min(float(weights[half].sum()) for half in (first, ~first)) == 0:
        raise UserError(
            f"--retrain.row_losses: one half of the {len(weights)} held-out rows, which chooses the other half's "
            f"temperature, has no label; allowed: more rows to evaluate on"
        )
    judged = crossed(likelihood, (statistics, statistics), weights, first)
    numbers_of = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    columns = {"split": names, "row": numbers, "source": [numbers_of[source] for source in sources]}
    return pd.DataFrame({**columns, "loss": judged.losses.numpy(), "weight": weights.numpy()})
