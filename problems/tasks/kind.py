"""What a search and its answer know of what is learned; a task knows more."""

from collections.abc import Mapping
from typing import Any, Protocol

from peft import TaskType
from torch import Tensor, nn


class Kind(Protocol):
    """A kind of labels, the loss of a batch, and the words for where the rows come from."""

    @property
    def peft_type(self) -> TaskType | None:
        """PEFT's name for it; None for a model and a loss of one's own."""

    def head(self) -> Mapping[str, Any]:
        """Configuration values of the model's head."""

    def origin(self, split: str | None = None) -> str:
        """Where the training rows, or those of an evaluation split, come from, as a message begins."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch. Scalar."""


def own_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The loss that a model of transformers computes itself from the labels in the batch. Scalar."""
    loss: Tensor = model(**batch).loss
    return loss
