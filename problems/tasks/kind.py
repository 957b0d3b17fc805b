"""The part of a task that engine/search and engine/measure use."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from peft import TaskType
from torch import Tensor, nn

Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]
"""Model and batch -> the mean loss of the batch, a scalar."""


class Kind(Protocol):
    """What a search reads of a task: PEFT's task type, the head's settings, the loss, and the origin of the rows."""

    @property
    def peft_type(self) -> TaskType | None:
        """PEFT's name for the kind of task; None if PEFT has none, as for a custom model with a custom loss."""

    def head(self) -> Mapping[str, Any]:
        """Configuration values of the model's head."""

    def origin(self, split: str | None = None) -> str:
        """Where the training rows, or the rows of `split`, come from; a message about the rows begins with it."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch. Scalar."""


def own_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The loss that a transformers model computes from the labels in the batch. Scalar."""
    loss: Tensor = model(**batch).loss
    return loss
