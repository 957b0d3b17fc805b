"""What the stages read of a task beside its rows: the loss, the kind of labels, metrics, texts."""

from dataclasses import dataclass
from typing import Any

from peft import TaskType
from torch import Tensor, nn

from autolora.problems.rows import Rows
from autolora.problems.tasks.base import Loss, Task, model_loss

_DIMENSIONS = {TaskType.SEQ_CLS: 1, TaskType.TOKEN_CLS: 2, TaskType.CAUSAL_LM: 2}
"""Dimensions that the labels of a batch have."""


@dataclass(frozen=True)
class Scoring:
    """How a model is judged on rows.

    `peft_type`: PEFT's name for the kind of labels. `loss`: model and batch -> the mean loss.
    `regression`: whether the labels are numbers to be predicted, not classes. `several`: whether a
    row has several labels, each 0 or 1, of which any number may be 1. `tells_rows`: whether
    the log loss of every row follows from the model's logits and the batch's labels. `task`: gives
    metrics and texts; None where only losses are known, as of a script's rows.
    """

    peft_type: TaskType | None
    loss: Loss = model_loss
    regression: bool = False
    several: bool = False
    tells_rows: bool = True
    task: Task | None = None


def scoring_of(task: Task) -> Scoring:
    """That of a task whose rows have been read."""
    regression = task.head().get("problem_type") == "regression"
    return Scoring(task.peft_type, task.loss, regression, task=task)


def scoring_of_script(
    task_type: TaskType | str | None,
    loss: Loss | None,
    rows: Rows,
    config: Any = None,
) -> Scoring:
    """That of a script's rows; `loss` None: the model's own.

    Only for the task types SEQ_CLS, TOKEN_CLS and CAUSAL_LM whose batches have one row of labels
    for each example is the log loss of every row known. `config`: the model's. As in transformers,
    a classifier of one output predicts a number, also where the labels are whole numbers; one of
    several outputs whose labels are no whole numbers has several labels a row, unless its
    problem_type says otherwise.
    """

    def of_batch(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        # a copy, as Trainer's loss removes the labels from it
        return (loss or model_loss)(model, dict(batch))

    known = None if task_type is None else TaskType(task_type)
    first = rows.take(range(min(2, len(rows))))
    labels = rows.collate(first).get("labels")
    dims = None if known is None else _DIMENSIONS.get(known)
    if labels is None or len(labels) != len(first):
        return Scoring(known, of_batch, tells_rows=False)
    outputs = getattr(config, "num_labels", None)
    one_number = known == TaskType.SEQ_CLS and outputs == 1
    if labels.is_floating_point() or one_number:
        kind = getattr(config, "problem_type", None)
        unnamed = kind is None and outputs != 1 and labels.dim() == 2
        several = kind == "multi_label_classification" or unnamed
        return Scoring(
            known,
            of_batch,
            regression=not several,
            several=several,
            tells_rows=known == TaskType.SEQ_CLS and labels.dim() <= 2,
        )
    return Scoring(known, of_batch, tells_rows=labels.dim() == dims)
