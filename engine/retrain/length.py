"""How long a retraining is: its optimiser steps and epochs, known before it begins."""

import math
from typing import NamedTuple

from configs.schema import RetrainConfig


class Length(NamedTuple):
    """The optimiser steps of a training, and the passes over its rows (epochs) that these steps make."""

    steps: int
    epochs: float

    def words(self) -> str:
        """The length as the log prints it: `3 epochs (12 steps)`."""
        epochs = f"{self.epochs:.1f}".removesuffix(".0")
        return f"{epochs} epoch{'' if epochs == '1' else 's'} ({self.steps:,} steps)"


def length_of(settings: RetrainConfig, rows: int) -> Length:
    """The length of a training on `rows` rows. Several processes share each batch, and do not change the length."""
    per_epoch = math.ceil(math.ceil(rows / settings.batch_size) / settings.gradient_accumulation)
    if settings.max_steps is None:
        return Length(math.ceil(settings.epochs * per_epoch), settings.epochs)
    return Length(settings.max_steps, settings.max_steps / per_epoch)
