"""One training: what it is given, and what a method prepares for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn
from transformers import TrainerCallback

from autolora.configs.training import RetrainConfig
from autolora.engine.export.adapter import Export
from autolora.engine.ranks import RankRecord
from autolora.engine.world import World
from autolora.problems.models.load import BaseModel
from autolora.problems.rows import Rows
from autolora.problems.tasks.scoring import Scoring


@dataclass(frozen=True)
class Training:
    """What a training is given beside its model.

    `settings`: with a single learning rate. `recompute`: whether blocks keep no activations.
    """

    rows: Rows
    scoring: Scoring
    settings: RetrainConfig
    seed: int = 0
    recompute: bool = False


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
    save: Callable[[Path, Export], None] = lambda root, export: None
    """Writes the trained model into folders below a root."""
    max_steps: int | None = None
    """The optimiser steps of the training; None: as many as its settings say."""
    seconds: float | None = None
    """Seconds that the method took to find its ranks; None if it looked for none."""


class Method(Protocol):
    """One way to adapt a base model to rows."""

    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """The model to train. Raises UserError for what the user must change."""
