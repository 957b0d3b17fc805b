"""What a model does on rows: one pass over each split, in the precision of the weights, gives
predictions, metrics, and the loss of every row."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from autolora.configs.errors import UserError
from autolora.engine.measure.judged import calibrated
from autolora.engine.measure.likelihood import likelihood_of, mean_loss
from autolora.engine.measure.passes import Passes
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute
from autolora.problems.rows import Rows, Splits
from autolora.problems.tasks.scoring import Scoring

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
class Judgement:
    """What a model does on rows.

    `metrics`: of the evaluation rows, with their mean `loss`; `predicted_rows`: the table of the
    predictions, for tasks that have one. `row_losses`: of all rows, also the unused ones, at a
    fitted temperature; `log_loss`: their mean, nats a label. Both are None if one half of the rows
    has no label."""

    metrics: Mapping[str, float]
    predicted_rows: pd.DataFrame | None = None
    row_losses: pd.DataFrame | None = None
    log_loss: float | None = None


def judge(
    model: nn.Module, splits: Splits[Rows], scoring: Scoring, world: World, *, batch: int
) -> Judgement:
    """Sends all rows of each evaluation split, and `splits.unused`, through a model in one pass,
    `batch` at a time. Raises NotFinite when the loss of a split is not finite, Interrupted in a
    single process when a signal asked to stop."""
    task = scoring.task
    assert task is not None
    likelihood = likelihood_of(scoring)
    parts = dict(splits.evaluation)
    if splits.unused is not None:
        parts[UNUSED] = splits.unused
    rows = Rows.joined(list(parts.values()))
    width = likelihood.width + max(2, int(rows.lengths.max()))

    def statistics(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the likelihood, and behind them the task's predictions: at most as many as a row
        has tokens, or two."""
        # First: the likelihood may overwrite logits of its own type.
        predicted = task.predicted(logits, labels).float()
        sums, weights = likelihood.statistics(logits, labels)
        sums = torch.cat([sums, predicted], dim=1)
        return nn.functional.pad(sums, (0, width - sums.shape[1])), weights

    both: Any = SimpleNamespace(
        width=width, labelled_positions=likelihood.labelled_positions, statistics=statistics
    )
    with world.progress("evaluate", len(rows)) as bar:
        # in the precision of the weights
        compute = Compute(world.compute.device, bf16=False)
        passes = Passes(rows, both, compute, world.processes, batch, world.check)
        sums, weights = passes.telling(bar.step, bar.grow).statistics(model)
    of_rows = sums[:, : likelihood.width]
    predicted = sums[:, likelihood.width :].numpy()
    metrics: dict[str, dict[str, float]] = {}
    tables: list[pd.DataFrame] = []
    end = 0
    for name, part in splits.evaluation.items():
        own = slice(end, end := end + len(part))
        loss = mean_loss(likelihood, of_rows[own], weights[own])
        if not np.isfinite(loss):
            raise NotFinite("the loss on the evaluation rows")
        metrics[name] = task.metrics(predicted[own], part.examples, loss) | {"loss": loss}
        table = task.predictions(predicted[own], part.examples)
        if table is not None:
            tables.append(table.assign(split=name) if len(splits.evaluation) > 1 else table)
    predictions = pd.concat(tables, ignore_index=True) if tables else None
    judged = calibrated(likelihood, of_rows, weights, rows.group_numbers)
    if judged is None:
        return Judgement(_together(metrics), predictions)
    places = [(name, row) for name, part in parts.items() for row in range(len(part))]
    losses = pd.DataFrame(places, columns=["split", "row"]).assign(
        source=rows.group_numbers, loss=judged.losses.numpy(), weight=judged.weights.numpy()
    )
    return Judgement(_together(metrics), predictions, losses, judged.loss)


def _together(by_split: Mapping[str, dict[str, float]]) -> dict[str, float]:
    """The metrics of the evaluation split; of several, their means and those of each, such as
    accuracy_matched of the split validation_matched."""
    first, *others = by_split.values()
    metrics = {
        name: sum(found[name] for found in by_split.values()) / len(by_split) for name in first
    }
    if not others:
        return metrics
    for split, found in by_split.items():
        end = split.rsplit("_", 1)[-1]
        metrics |= {f"{name}_{end}": found[name] for name in first if name != "loss"}
    return metrics
