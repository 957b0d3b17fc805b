"""The log loss of every held-out row, by which two trainings are compared row by row."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from autolora.configs.errors import UserError
from autolora.engine.measure.judged import calibrated
from autolora.engine.measure.likelihood import likelihood_of
from autolora.engine.measure.rows import numbered
from autolora.engine.retrain.held_out import Measured, measured
from autolora.engine.run.context import Context
from autolora.problems.data import Data
from autolora.problems.tasks.inputs import inputs_of

UNUSED = "unused"
"""The name of the training rows that task.train_rows left unused."""


def row_losses(model: nn.Module, run: Context, data: Data, known: Mapping[str, Measured]) -> pd.DataFrame:
    """A table with one row for each row of the evaluation splits and of `data.unused`.

    Columns: `split`; `row`, its number in the split; `source`, a number that is the same for all rows of one
    input (the references of a record, copies of a text); `loss` in nats, summed over its labels; `weight`, the number
    of its labels.

    The rows of every other source are one half. The loss of each half is taken at the temperature that fits the other
    half best. `known`: the splits that are measured already. Raises UserError if a half has no label.
    """
    parts = dict(data.evaluation) | ({} if data.unused is None else {UNUSED: data.unused})
    names: list[str] = []
    numbers: list[int] = []
    sources: list[Any] = []
    found: list[Measured] = []
    likelihood = likelihood_of(run.task)
    for name, rows in parts.items():
        found.append(known[name] if name in known else measured(model, run, data.collate, rows, likelihood))
        sources += inputs_of(rows, range(len(rows)))
        names += [name] * len(rows)
        numbers += range(len(rows))
    statistics = torch.cat([of.statistics for of in found])
    weights = torch.cat([of.weights for of in found])
    judged = calibrated(likelihood, statistics, weights, numbered(sources))
    if judged is None:
        raise UserError(
            f"--retrain.row_losses: one half of the {len(weights)} held-out rows has no label, and cannot choose "
            f"the temperature of the other half; allowed: more rows to evaluate on"
        )
    numbers_of = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    columns = {"split": names, "row": numbers, "source": [numbers_of[source] for source in sources]}
    return pd.DataFrame({**columns, "loss": judged.losses.numpy(), "weight": weights.numpy()})


def refuse_few_rows(run: Context) -> None:
    """Refuses, before anything is trained, retrain.row_losses with a single held-out row, as no other row could choose
    its temperature."""
    if not run.config.retrain.row_losses:
        return
    rows = sum(map(len, run.data.evaluation.values())) + (0 if run.data.unused is None else len(run.data.unused))
    if rows < 2:
        raise UserError(f"--retrain.row_losses: there is {rows} held-out row; allowed: 2 or more rows to evaluate on")
