"""What a method prepares for the training, below the training itself: a method may call it, as `wide` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import TrainerCallback

from autolora.engine.ranks import RankRecord


@dataclass(frozen=True)
class Prepared:
    """A model to train, with its LoRA ranks if they are known, and callbacks for Trainer."""

    model: nn.Module
    record: RankRecord | None = None
    callbacks: Sequence[TrainerCallback] = ()
    finish: Callable[[], "Prepared"] | None = None
    """Called after the training: gives the model that is evaluated and saved, with its ranks."""
    save: Callable[[], None] | None = None
    """Writes the trained model; None: it is saved as plain LoRA."""
    new_ranks: bool = False
    """Whether the method made `record`, so that ranks.json gets it when the training begins."""
    resumes: bool = True
    """Whether checkpoints are written, from which a training goes on after a stop."""
    seconds: float | None = None
    """Seconds that the method took to find its ranks; None if it looked for none."""
