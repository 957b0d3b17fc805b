"""What a method prepares for the training, below the training itself: a method may call it, as
`wide` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import TrainerCallback

from autolora.engine.ranks import RankRecord
from autolora.engine.run.context import Context
from autolora.problems.models.load import BaseModel


@dataclass(frozen=True)
class Prepared:
    """A model to train, with its LoRA ranks if they are known."""

    model: nn.Module
    record: RankRecord | None = None
    callbacks: Sequence[TrainerCallback] = ()
    """For Trainer. No checkpoint holds their state, so that a training with callbacks does not
    resume."""
    finish: Callable[[], "Prepared"] | None = None
    """Called after the training: gives the model that is evaluated and saved, with its ranks."""
    save: Callable[[], None] = lambda: None
    """Writes the trained model."""
    max_steps: int | None = None
    """The optimiser steps of the training; None: as many as `retrain` says."""
    seconds: float | None = None
    """Seconds that the method took to find its ranks; None if it looked for none."""


Method = Callable[[BaseModel, Context], Prepared]
"""One way to adapt the base model to a run's training rows. Raises UserError for what the user must
change."""
