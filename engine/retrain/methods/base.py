"""What all methods share: the size of one component of each layer, budgets and lengths."""

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from autolora.configs.count_words import counted
from autolora.configs.errors import UserError
from autolora.configs.training import LoraInBudget, RetrainConfig
from autolora.engine.cut.basis import parameters_of
from autolora.engine.ranks.rules import rounded_up
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.models.layers import layer_shapes
from autolora.problems.models.load import BaseModel

Method = Callable[[BaseModel, Context, int], Prepared]
"""One way to adapt the base model: prepares it to be trained on so many rows. Raises UserError for what the user must
change."""


def layer_sizes(model: Any) -> dict[str, int]:
    """Name -> inputs + outputs of every layer that could take LoRA: the size of one component."""
    return {name: sum(shape) for name, shape in layer_shapes(model).items()}


def budget_of(lora: LoraInBudget, sizes: Collection[int], least: int = 0) -> int:
    """The budget in LoRA parameters of `lora.budget`.

    `sizes`: for each layer, the parameters of one component. Raises UserError if the budget is below `least`, the
    parameters of one component that must fit.
    """
    rank = lora.budget
    budget = parameters_of(rank, sizes)
    if budget < least:
        lowest = rounded_up(least / sum(sizes))
        raise UserError(
            f"--lora.budget: {rank:g} is not allowed for this model; allowed: {lowest:g} or more, so that one "
            f"component of {least:,} LoRA parameters fits"
        )
    return budget


class Length(NamedTuple):
    """The optimiser steps of a training, and the passes over its rows (epochs) that these steps make."""

    steps: int
    epochs: float

    def words(self) -> str:
        """The length as the log prints it: `3 epochs (12 steps)`."""
        # Two digits, or all digits before the point: 0.016 epochs, 2.4 epochs, 1000 epochs.
        epochs = float(f"{self.epochs:.2g}") if self.epochs < 1 else round(self.epochs, 1)
        return f"{counted(epochs, 'epoch')} ({counted(self.steps, 'step')})"


def length_of(settings: RetrainConfig, rows: int) -> Length:
    """The length of a training on `rows` rows. Several processes share each batch, and do not change the length."""
    per_epoch = math.ceil(rows / (settings.batch_size * settings.gradient_accumulation))
    if settings.max_steps is None:
        return Length(math.ceil(settings.epochs * per_epoch), settings.epochs)
    return Length(settings.max_steps, settings.max_steps / per_epoch)
