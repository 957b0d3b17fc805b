"""The rows and the loss that a script gives, as a search reads them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from peft import TaskType
from torch import Tensor, nn
from torch.utils.data import Subset

from autolora.problems.tasks.base import Collate, Loss, Task, model_loss

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
    rows: "ScriptRows",
    outputs: int | None = None,
) -> LabelKind:
    """The kind of labels in these rows.

    Only for the task types SEQ_CLS, TOKEN_CLS and CAUSAL_LM whose batches have one row of labels
    for each example is the log loss of every row known. `outputs`: the classes that the model has
    (`config.num_labels`); a classifier of one predicts a number, also where the labels are whole
    numbers.
    """
    known = None if task_type is None else TaskType(task_type)
    first = rows.__getitems__(range(min(2, len(rows))))
    labels = rows.collate(first).get("labels")
    dims = None if known is None else _DIMENSIONS.get(known)
    if labels is None or labels.dim() != dims or len(labels) != len(first):
        return LabelKind(known, loss)
    number = labels.is_floating_point() or (known == TaskType.SEQ_CLS and outputs == 1)
    return LabelKind(known, loss, tells_rows=not number or dims == 1, regression=number)


class ScriptRows:
    """The examples of any data set that has a length and an index, with the interface of a task's
    encoded rows.

    Column `length`: the tokens of each example's `input_ids`, else 1, by which batches are grouped.
    Column `group`: with `by_text`, which says that a text is all that is read of an example, the
    same for those with equal `input_ids`. `labels` of some rows: those that the collator makes from
    each example alone; if `shifted`, as for a causal language model, without the first one, which
    no token comes before.
    """

    def __init__(
        self,
        source: Any,
        collate: Callable[[list[Any]], Any],
        *,
        shifted: bool = False,
        by_text: bool = False,
    ) -> None:
        self._source = source
        self._first = int(shifted)
        # A plain dict, as Betty would make a tuple of the keys of transformers' BatchEncoding.
        self.collate: Collate = lambda examples: {**collate(examples)}
        self._lengths = []
        texts = []
        for number in range(len(source)):
            example = source[number]
            ids = example.get("input_ids") if hasattr(example, "get") else None
            tokens = None if ids is None else np.asarray(ids)
            self._lengths.append(1 if tokens is None else tokens.size)
            texts.append(None if tokens is None else hash(tokens.tobytes()))
        self._groups: Sequence[Any] = texts if by_text and None not in texts else range(len(texts))

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, numbers: Iterable[int]) -> list[Any]:
        """The examples with these numbers."""
        return [self._source[int(number)] for number in numbers]

    def __getitem__(self, key: Any) -> Any:
        """The column `length` or `group`, or the labels of the rows with these numbers."""
        if isinstance(key, str):
            return {"length": self._lengths, "group": self._groups}[key]
        batches = [self.collate([self._source[number]]) for number in key]
        return {
            "labels": [x["labels"][..., self._first :] if "labels" in x else 0 for x in batches]
        }

    def select(self, numbers: Iterable[int]) -> Self:
        """The rows with these numbers, of which each example is read only when it is needed."""
        chosen = list(map(int, numbers))
        found = copy(self)
        found._source = Subset(self._source, chosen)
        found._lengths = [self._lengths[number] for number in chosen]
        found._groups = [self._groups[number] for number in chosen]
        return found
