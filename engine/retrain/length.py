"""How long a retraining is: its optimiser steps and epochs, known before it begins."""

import math
from typing import NamedTuple

from configs.schema import RetrainConfig


class Length(NamedTuple):
    """Optimiser steps, and the passes over the rows that they make."""

    steps: int
    epochs: float

    def words(self) -> str:
        """As the log says it: `3 epochs (12 steps)`."""
        epochs = f"{self.epochs:.1f}".removesuffix(".0")
        return f"{epochs} epoch{'' if epochs == '1' else 's'} ({self.steps:,} steps)"


def length_of(settings: RetrainConfig, rows: int) -> Length:
    """That of a training on so many rows; among several processes it is the same, as the batches are."""
    per_epoch = math.ceil(math.ceil(rows / settings.batch_size) / settings.gradient_accumulation)
    if settings.max_steps is None:
        return Length(math.ceil(settings.epochs * per_epoch), settings.epochs)
    return Length(settings.max_steps, settings.max_steps / per_epoch)
