"""What a method is to the rest of the program: a model to be trained by the one trainer, and what is kept of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import TrainerCallback

from configs.errors import UserError
from configs.schema import LoraSettings
from engine.ranks import RankRecord
from engine.ranks.needs import rounded_up
from engine.ranks.rules import parameters_of
from engine.run.context import Context
from problems.models.layers import HEADS, layer_shapes
from problems.models.load import BaseModel


@dataclass(frozen=True)
class Prepared:
    """A model to be trained, its LoRA ranks where they are known before, what runs beside the training, the head's
    modules."""

    model: nn.Module
    record: RankRecord | None = None
    callbacks: Sequence[TrainerCallback] = ()
    head: Sequence[str] = ()
    zeros: int = 0
    """Numbers among the trainable parameters that stay 0: those of B outside a part's block of outputs."""
    finish: Callable[[], None] | None = None
    """What changes the trained model before it is evaluated."""
    seconds: float | None = None
    """What it took to find the ranks; None where nothing was looked for."""


class Method(ABC):
    """One way to adapt the base model; METHODS lists them all."""

    @abstractmethod
    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """The model to be trained on `rows` training rows. Raises UserError for what the user must change."""

    @abstractmethod
    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes what the run folder keeps of the trained model; returns its final ranks, None without LoRA."""


def head_of(base: BaseModel) -> list[str]:
    """The task head, also where the base model came with one, and what else is trained whole; PEFT trains the same
    modules."""
    return sorted({*base.trained_whole, *HEADS})


def layer_sizes(model: Any) -> dict[str, int]:
    """Name -> inputs + outputs of every layer, or part of one, that could take LoRA: the numbers in one component."""
    return {name: sum(shape) for name, shape in layer_shapes(model).items()}


def budget_of(lora: LoraSettings, sizes: Collection[int], least: int = 0) -> int:
    """The LoRA parameters of `lora.budget`, or of rank `lora.r` in every layer; `sizes`: those of one component each.

    Raises UserError for fewer than `least`, one component that must have room.
    """
    rank, key = (lora.r, "lora.r") if lora.budget is None else (lora.budget, "lora.budget")
    budget = parameters_of(rank, sizes)
    if budget < least:
        lowest = rounded_up(least / sum(sizes))
        raise UserError(
            f"--{key}: {rank:g} is not allowed for this model; allowed: {lowest:g} or more, one component of "
            f"{least:,} LoRA parameters"
        )
    return budget
