"""The interface of a method: it prepares the model that the retraining trains, and saves the trained model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import TrainerCallback

from autolora.configs.errors import UserError
from autolora.configs.training import LoraInBudget
from autolora.engine.cut.budget import parameters_of
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.rules import rounded_up
from autolora.engine.run.context import Context
from autolora.problems.models.layers import HEADS, layer_shapes
from autolora.problems.models.load import BaseModel


@dataclass(frozen=True)
class Prepared:
    """A model to train, its LoRA ranks if they are known before the training, callbacks for Trainer, and the names of
    the head's modules."""

    model: nn.Module
    record: RankRecord | None = None
    callbacks: Sequence[TrainerCallback] = ()
    head: Sequence[str] = ()
    zeros: int = 0
    """How many trainable parameters stay 0: in a fused layer, those of B that lead from a part's components to the
    outputs of another part."""
    finish: Callable[[], None] | None = None
    """Called after the training, to change the model before it is evaluated."""
    new_ranks: bool = False
    """Whether the method made `record`, so that ranks.json gets it when the training begins."""
    seconds: float | None = None
    """Seconds that the method took to find its ranks; None if it looked for none."""


class Method(ABC):
    """One way to adapt the base model; METHODS lists them all."""

    @abstractmethod
    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """The model to be trained on `rows` training rows. Raises UserError for what the user must change."""

    @abstractmethod
    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes the trained model to the run folder; returns its final ranks, or None without LoRA."""


def head_of(base: BaseModel) -> list[str]:
    """Names of the modules that are trained whole: those in `base.trained_whole`, and those in HEADS, which PEFT
    always trains whole in a classifier."""
    return sorted({*base.trained_whole, *HEADS})


def layer_sizes(model: Any) -> dict[str, int]:
    """Name -> inputs + outputs of every layer, or part of one, that could take LoRA: the size of one component."""
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
