"""How long a retraining is: its optimiser steps and epochs, known before it begins."""

import math
from typing import NamedTuple

from autolora.configs.count_words import counted
from autolora.configs.training import RetrainConfig


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
    per_epoch = math.ceil(math.ceil(rows / settings.batch_size) / settings.gradient_accumulation)
    if settings.max_steps is None:
        return Length(math.ceil(settings.epochs * per_epoch), settings.epochs)
    return Length(settings.max_steps, settings.max_steps / per_epoch)
