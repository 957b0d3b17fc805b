"""Wrap the rows and the loss that a script gives, so that a search can read them."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import torch
from datasets import Dataset
from peft import TaskType
from torch import Tensor, nn
from torch.utils.data import DataLoader

from autolora.configs.errors import UserError
from autolora.problems.tasks.base import Collate
from autolora.problems.tasks.kind import Loss
from autolora.problems.tasks.labels import count_labels

# Examples in the batch that `kind_of` looks at.
_TRIED = 2
# Dimensions that the labels of a batch have.
_DIMENSIONS = {TaskType.SEQ_CLS: 1, TaskType.TOKEN_CLS: 2, TaskType.CAUSAL_LM: 2}


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
        """The loss of a batch. Raises UserError if it is no scalar tensor, and if the model computes none itself."""
        # A copy, as Trainer's loss removes the labels from its inputs.
        loss: Any = (self.loss_of or _loss_of_output)(model, dict(batch))
        if isinstance(loss, Tensor) and loss.dim() == 0:
            if torch.is_grad_enabled() and not loss.requires_grad:
                raise UserError("loss: returns a tensor without a gradient; allowed: one that is not detached")
            return loss
        if loss is None:
            raise UserError("loss: the model computes none from these batches; give them labels, or give a loss")
        given = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise UserError(f"loss: returns {given}; allowed: a scalar tensor, the mean loss of the batch")


def _loss_of_output(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The loss that the model's output holds. Raises UserError for an output without one, and for a model that does
    not take the names in the batch as arguments."""
    name = type(model).__name__
    advice = "give loss=, a function of model and batch that gives the mean loss"
    try:
        output = model(**batch)
    except TypeError:
        try:
            inspect.signature(model.forward).bind(**batch)
        except TypeError as unfit:
            raise UserError(f"loss: {name} does not take batches of {', '.join(batch)} ({unfit}); {advice}") from unfit
        raise
    if not hasattr(output, "loss"):
        raise UserError(f"loss: {name} returns {type(output).__name__}, which has no .loss; {advice}")
    loss: Tensor = output.loss
    return loss


def kind_of(
    task_type: TaskType | str | None,
    loss: Loss | None,
    rows: "GivenRows",
    *,
    plain: bool,
    outputs: int | None = None,
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


def refuse_unindexed(name: str, source: Any) -> None:
    """Raises UserError for a data set that has no length, no index or no row, for a dict of data sets, and for a
    DataLoader; `name`: the argument that gave it."""
    if isinstance(source, DataLoader):
        raise UserError(
            f"{name}: {type(source).__name__} is not allowed; allowed: its rows, {name}=loader.dataset with "
            f"collate=loader.collate_fn; the search draws its own batches, of search.batch_size rows"
        )
    if isinstance(source, Mapping) or not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
        kind = type(source).__name__
        raise UserError(f"{name}: {kind} has no length or no index; allowed: a data set with both, such as a list")
    if len(source) == 0:
        raise UserError(f"{name}: has no rows; allowed: one or more")


def refuse_other_types(model: Any, collate: Any, loss: Any) -> None:
    """Raises UserError for a model that is no module, and for a collator or loss that cannot be called."""
    for name, value, right, allowed in (
        ("model", model, isinstance(model, nn.Module), "a torch.nn.Module"),
        ("collate", collate, callable(collate), "a function that makes a batch from a list of examples"),
        ("loss", loss, loss is None or callable(loss), "a function of model and batch, or None"),
    ):
        if not right:
            raise UserError(f"{name}: {type(value).__name__} is not allowed; allowed: {allowed}")


def with_columns_of(rows: Any, validation: Any) -> Any:
    """The validation rows of a trainer, with the columns of its train rows alone.

    Raises UserError if they have no columns, or lack one of these."""
    wanted = getattr(rows, "column_names", None)
    if validation is None or wanted is None:
        return validation
    is_table = hasattr(validation, "select_columns")
    missing = ", ".join(name for name in wanted if name not in getattr(validation, "column_names", ()))
    if missing or not is_table:
        what = f"a data set without the columns {missing}" if is_table else type(validation).__name__
        raise UserError(
            f"validation_dataset: {what} is not allowed; allowed: a Dataset that was prepared as the trainer's train "
            f"rows are, with the columns {', '.join(wanted)}"
        )
    return validation.select_columns(wanted)


class GivenRows:
    """The examples of any data set that has a length and an index, with the interface of a task's encoded rows.

    Column `length`: tokens of each example (its own `length`, else the number of its `input_ids`, else 1), by which
    batches are grouped. Column `labels`: the labels that the collator makes from each example alone, flattened; if
    `shifted`, as for a causal language model, without the first one, which no token comes before. `collate` returns
    a plain dict of tensors; it raises UserError if the given collator returns anything else.

    `texts`: for each example something that is equal for examples with equal `input_ids`; None if an example has none,
    and unless `by_text`, which says that a text is all that is read of an example.
    """

    def __init__(
        self, source: Any, collate: Callable[[list[Any]], Any], *, shifted: bool = False, by_text: bool = False
    ) -> None:
        self._source = source
        self._collate = collate
        self._shifted = shifted
        read = [(_tokens(example), _text(example) if by_text else None) for example in _examples(source, by_text)]
        self._lengths = [length for length, _ in read]
        texts = [text for _, text in read if text is not None]
        self.texts: list[bytes] | None = texts if by_text and len(texts) == len(read) else None

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, numbers: Iterable[int]) -> list[Any]:
        """The examples with these numbers."""
        return [self._source[int(number)] for number in numbers]

    def __getitem__(self, key: Any) -> Any:
        """A column (`length`, `labels`), or the columns of some rows."""
        if key == "length":
            return self._lengths
        if key == "labels":
            return self._labels(range(len(self)))
        return {"labels": self._labels(key)}

    def parts(self, numbers: Sequence[int], size: int) -> tuple[list[dict[str, Tensor]], list[float]]:
        """These examples as batches of at most `size`, and the share of each in the labels of all of them.

        The labels are counted in the batches themselves, as a collator may draw them (masked words, for example): each
        example is collated once. A batch without labels is left out, unless no other is left."""
        cuts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        batches = [self._checked(self.__getitems__(cut)) for cut in cuts]
        first = 1 if self._shifted else 0
        counts = [
            count_labels(_numbers(batch["labels"][..., first:])) if "labels" in batch else len(cut)
            for batch, cut in zip(batches, cuts, strict=True)
        ]
        kept = [place for place, count in enumerate(counts) if count] or [len(counts) - 1]
        total = max(1, sum(counts))
        return [batches[place] for place in kept], [counts[place] / total for place in kept]

    def select(self, numbers: Iterable[int]) -> Self:
        """The rows with these numbers."""
        chosen = [int(number) for number in numbers]
        found = copy(self)
        found._source = _Chosen(self._source, chosen)
        found._lengths = [self._lengths[number] for number in chosen]
        found.texts = None if self.texts is None else [self.texts[number] for number in chosen]
        return found

    @property
    def collate(self) -> Collate:
        """Examples -> one batch as a plain dict of tensors and, for the model's own use, of plain numbers."""
        return self._checked

    def _checked(self, examples: list[Any]) -> dict[str, Tensor]:
        batch: Any = self._collate(examples)
        if not hasattr(batch, "keys"):
            raise UserError(f"collate: returns {type(batch).__name__}; allowed: a dict of tensors")
        found = {name: batch[name] for name in batch}
        for name, value in found.items():
            if not isinstance(value, Tensor | int | float):
                raise UserError(f"collate: {name!r} is {type(value).__name__}; allowed: a tensor, or a number")
        return found

    def _labels(self, numbers: Iterable[int]) -> list[Any]:
        batches = [self._checked([self._source[int(number)]]) for number in numbers]
        first = 1 if self._shifted else 0
        return [_numbers(batch["labels"][..., first:]) if "labels" in batch else 0 for batch in batches]


def _numbers(labels: Tensor) -> np.ndarray:
    """Labels as a flat array; the script's collate may have put them on a GPU, or in bf16, which numpy lacks."""
    flat = labels.detach().flatten().cpu()
    found: np.ndarray = (flat.double() if flat.is_floating_point() else flat).numpy()
    return found


class _Chosen:
    """Some examples of a data set; each is read only when it is needed."""

    def __init__(self, source: Any, numbers: Sequence[int]) -> None:
        self._source, self._numbers = source, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Any:
        return self._source[self._numbers[number]]


class Joined:
    """Two data sets as one: the second follows the first."""

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, number: int) -> Any:
        first = len(self._first)
        return self._first[number] if number < first else self._second[number - first]


def _examples(source: Any, by_text: bool) -> Iterable[Any]:
    """Every example; of a Dataset with columns for its length or its tokens only those that are needed."""
    columns = source.column_names if isinstance(source, Dataset) else ()
    needed = [name for name in ("length", "input_ids") if name in columns]
    if not needed:
        return (source[number] for number in range(len(source)))
    columns_of = zip(*(source[name] for name in (needed if by_text else needed[:1])), strict=True)
    return (dict(zip(needed, values, strict=False)) for values in columns_of)


def _tokens(example: Any) -> int:
    """Tokens of one example; 1 if it has neither `length` nor `input_ids`."""
    if not hasattr(example, "get"):
        return 1
    length, ids = example.get("length"), example.get("input_ids")
    if isinstance(length, int) or (isinstance(length, Tensor) and length.dim() == 0):
        return int(length)
    if isinstance(ids, Tensor):
        return int(torch.tensor(ids.shape).prod()) if ids.dim() else 1
    return len(ids) if hasattr(ids, "__len__") else 1


def _text(example: Any) -> bytes | None:
    """A digest of the `input_ids` of one example; None if it has none."""
    ids = example.get("input_ids") if hasattr(example, "get") else None
    if ids is None:
        return None
    return blake2b(repr(ids.tolist() if hasattr(ids, "tolist") else ids).encode(), digest_size=16).digest()
