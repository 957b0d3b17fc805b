"""The rows and the loss that a script gives, as a search reads them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from datasets import Dataset
from peft import TaskType
from torch import Tensor, nn
from torch.utils.data import Subset

from autolora.problems.tasks.base import Collate, Loss, Task, own_loss

_TRIED = 2
"""Examples in the batch that `kind_of` looks at."""
_DIMENSIONS = {TaskType.SEQ_CLS: 1, TaskType.TOKEN_CLS: 2, TaskType.CAUSAL_LM: 2}
"""Dimensions that the labels of a batch have."""


@dataclass(frozen=True)
class GivenKind:
    """The kind of labels in a script's rows, as far as it is known.

    `peft_type`: PEFT's name for it. `loss_of`: the loss (None: the model's own). `tells_rows`: whether the log loss of
    every row follows from the model's logits and the batch's labels. `regression`: whether the labels are numbers to
    be predicted, not classes.
    """

    peft_type: TaskType | None
    loss_of: Loss | None = None
    tells_rows: bool = False
    regression: bool = False

    def head(self) -> Mapping[str, Any]:
        """The head's configuration values that engine/measure reads: `problem_type` for a regression."""
        return {"problem_type": "regression"} if self.regression else {}

    def origin(self, split: str | None = None) -> str:
        """The name of the argument with the rows."""
        return "train_dataset"

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch. Scalar."""
        return (self.loss_of or own_loss)(model, dict(batch))  # a copy, as Trainer's loss removes the labels from it


Kind = Task | GivenKind
"""What a search reads: PEFT's task type, the head's settings, the loss, and the origin of the rows."""


def kind_of(
    task_type: TaskType | str | None, loss: Loss | None, rows: "GivenRows", *, plain: bool, outputs: int | None = None
) -> GivenKind:
    """The kind of labels in these rows.

    `outputs`: the classes that the model has (`config.num_labels`); a classifier of one predicts a number, also where
    the labels are whole numbers.
    `plain`: whether the loss is just the mean log loss of the labels. Only then, and only for the task types SEQ_CLS,
    TOKEN_CLS and CAUSAL_LM whose batches have one row of labels for each example, is the log loss of every row known.
    """
    known = None if task_type is None else TaskType(task_type)
    count = min(_TRIED, len(rows))
    labels = rows.collate(rows.__getitems__(range(count))).get("labels")
    dims = _DIMENSIONS.get(known) if known is not None and plain else None
    if labels is None or labels.dim() != dims or len(labels) != count:
        return GivenKind(known, loss)
    number = labels.is_floating_point() or (known == TaskType.SEQ_CLS and outputs == 1)
    return GivenKind(known, loss, tells_rows=not number or dims == 1, regression=number)


class GivenRows:
    """The examples of any data set that has a length and an index, with the interface of a task's encoded rows.

    Column `length`: tokens of each example (its own `length`, else the number of its `input_ids`, else 1), by which
    batches are grouped. Column `labels`: the labels that the collator makes from each example alone, flattened; if
    `shifted`, as for a causal language model, without the first one, which no token comes before. Column `group`: with
    `by_text`, which says that a text is all that is read of an example, the same for those with equal `input_ids`.
    """

    def __init__(
        self, source: Any, collate: Callable[[list[Any]], Any], *, shifted: bool = False, by_text: bool = False
    ) -> None:
        self._source, self._shifted = source, shifted
        # A plain dict, as Betty would make a tuple of the keys of transformers' BatchEncoding.
        self.collate: Collate = lambda examples: {**collate(examples)}
        read = [_read(example) for example in _examples(source, by_text)]
        self._lengths = [length for length, _ in read]
        texts = [text for _, text in read]
        self._groups: Sequence[Any] = texts if by_text and None not in texts else range(len(read))

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, numbers: Iterable[int]) -> list[Any]:
        """The examples with these numbers."""
        return [self._source[int(number)] for number in numbers]

    def __getitem__(self, key: Any) -> Any:
        """A column, or the labels of some rows."""
        if isinstance(key, str) and key != "labels":
            return {"length": self._lengths, "group": self._groups}[key]
        return self._labels(range(len(self))) if key == "labels" else {"labels": self._labels(key)}

    def select(self, numbers: Iterable[int]) -> Self:
        """The rows with these numbers, of which each example is read only when it is needed."""
        chosen = [int(number) for number in numbers]
        found = copy(self)
        found._source = Subset(self._source, chosen)
        found._lengths = [self._lengths[number] for number in chosen]
        found._groups = [self._groups[number] for number in chosen]
        return found

    def _labels(self, numbers: Iterable[int]) -> list[Any]:
        batches = [self.collate([self._source[int(number)]]) for number in numbers]
        first = 1 if self._shifted else 0
        return [_numbers(batch["labels"][..., first:]) if "labels" in batch else 0 for batch in batches]


def _numbers(labels: Tensor) -> np.ndarray:
    """Labels as a flat array; the script's collate may have put them on a GPU, or in bf16, which numpy lacks."""
    flat = labels.detach().flatten().cpu()
    found: np.ndarray = (flat.double() if flat.is_floating_point() else flat).numpy()
    return found


def _examples(source: Any, by_text: bool) -> Iterable[Any]:
    """Every example; of a Dataset with columns for its length or its tokens only those that are needed."""
    columns = source.column_names if isinstance(source, Dataset) else ()
    needed = [name for name in ("length", "input_ids") if name in columns]
    if needed:
        source = source.select_columns(needed if by_text else needed[:1])
    return (source[number] for number in range(len(source)))


def _read(example: Any) -> tuple[int, int | None]:
    """The tokens of one example, 1 if it has neither `length` nor `input_ids`; and a number that stands for its
    `input_ids`, None if it has none."""
    found = example if hasattr(example, "get") else {}
    length, ids = found.get("length"), found.get("input_ids")
    tokens = None if ids is None else np.asarray(ids)
    if length is None or np.ndim(length) > 0:
        length = 1 if tokens is None else tokens.size
    if tokens is None:
        return int(length), None
    return int(length), int.from_bytes(blake2b(tokens.tobytes(), digest_size=8).digest(), signed=True)
