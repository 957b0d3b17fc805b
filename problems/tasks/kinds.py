"""What a search reads of labels: their kind, and the loss of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft import TaskType
from torch import Tensor, nn

from autolora.problems.rows import Rows
from autolora.problems.tasks.base import Loss, Task, model_loss

_DIMENSIONS = {TaskType.SEQ_CLS: 1, TaskType.TOKEN_CLS: 2, TaskType.CAUSAL_LM: 2}
"""Dimensions that the labels of a batch have."""


@dataclass(frozen=True)
class LabelKind:
    """The kind of labels in a script's rows, as far as it is known.

    `peft_type`: PEFT's name for it. `loss_of`: the loss (None: the model's own). `tells_rows`:
    whether the log loss of every row follows from the model's logits and the batch's labels.
    `regression`: whether the labels are numbers to be predicted, not classes.
    """

    peft_type: TaskType | None
    loss_of: Loss | None = None
    tells_rows: bool = False
    regression: bool = False

    def head(self) -> Mapping[str, Any]:
        """The head's configuration values that engine/measure reads: `problem_type` for a
        regression."""
        return {"problem_type": "regression"} if self.regression else {}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch. Scalar."""
        # a copy, as Trainer's loss removes the labels from it
        return (self.loss_of or model_loss)(model, dict(batch))


Kind = Task | LabelKind
"""What a search reads: PEFT's task type, the head's settings, and the loss."""


def kind_of(
    task_type: TaskType | str | None,
    loss: Loss | None,
    rows: Rows,
    outputs: int | None = None,
) -> LabelKind:
    """The kind of labels in these rows.

    Only for the task types SEQ_CLS, TOKEN_CLS and CAUSAL_LM whose batches have one row of labels
    for each example is the log loss of every row known. `outputs`: the classes that the model has
    (`config.num_labels`); a classifier of one predicts a number, also where the labels are whole
    numbers.
    """
    known = None if task_type is None else TaskType(task_type)
    first = rows.take(range(min(2, len(rows))))
    labels = rows.collate(first).get("labels")
    dims = None if known is None else _DIMENSIONS.get(known)
    if labels is None or labels.dim() != dims or len(labels) != len(first):
        return LabelKind(known, loss)
    number = labels.is_floating_point() or (known == TaskType.SEQ_CLS and outputs == 1)
    return LabelKind(known, loss, tells_rows=not number or dims == 1, regression=number)
