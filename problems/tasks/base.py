"""What a task is: its rows, the model's head and loss, and the metrics."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from datasets import Dataset
from peft import TaskType
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.tasks import ERRORS
from autolora.problems.rows import Collate, Splits
from autolora.problems.tasks.sources import HeldOut, read

PAD_TO = 8
"""Batches are padded to a multiple of this: GPUs multiply such matrices faster."""

Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]
"""Model and batch -> the mean loss of the batch, a scalar."""

PROGRAM = hashlib.sha256(
    b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()
"""Of the modules that encode rows. `datasets` would return rows that an older program has encoded:
it knows a function by its name alone."""


@dataclass(frozen=True)
class Trained:
    """What is known of a model that is trained already, so that its rows are measured and none is
    learned from.

    `rows`: those that are measured; `test`: those on which a cut of it is evaluated. `classes`: the
    names in the order of the head's outputs; empty: nobody has named them. `outputs`: of the head;
    None: it has no classes.
    """

    rows: HeldOut
    test: HeldOut | None = None
    classes: tuple[str, ...] = ()
    outputs: int | None = None


def model_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The loss that a transformers model computes from the labels in the batch. Scalar."""
    loss: Tensor = model(**batch).loss
    return loss


def for_batches(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, padding on the right: with padding on the left a model with absolute positions
    reads a row at shifted positions. The tokenizer itself keeps its side, as prompts are padded on
    the left."""
    right = copy(tokenizer)
    right.padding_side = "right"
    return right


@dataclass(frozen=True, eq=False)
class Task(ABC):
    """One task, a function of its settings and of the seed of all draws from the data.

    Its rows are read when something is first asked that depends on them, such as the classes.
    `trained`: where nothing is learned, the rows to measure take the place of those to train on;
    numbers are then in their own units, not on the scale `label_scale`.
    """

    config: Any
    seed: int = 0
    trained: Trained | None = None

    auto_class: ClassVar[Any]
    """transformers' Auto class with the right head."""
    peft_type: ClassVar[TaskType]
    collator: ClassVar[Any]
    """transformers' class that pads rows."""
    tokenizer_options: ClassVar[Mapping[str, Any]] = {}
    """Options with which the tokenizer must be loaded."""

    @cached_property
    def raw(self) -> Splits[Dataset]:
        """The rows. Raises UserError when they cannot be loaded or lack a column."""
        if self.trained is None:
            return read(self.config, self.seed, self.prepared, self.inputs_of)
        test = self.trained.test
        evaluation = {} if test is None else {"test": self.prepared(test.rows, "test")}
        return Splits(self.prepared(self.trained.rows.rows, None), evaluation)

    @abstractmethod
    def prepared(self, rows: Dataset, split: str | None) -> Dataset:
        """The rows of a split as they were read (None: those to train on) with the columns that
        `encode` needs, and without those from which nothing can be learned. Raises UserError for
        what cannot be learned."""

    @abstractmethod
    def inputs_of(self, rows: Dataset) -> Sequence[str]:
        """The columns of rows that the model reads: rows in which they are equal are of one
        input."""

    def origin(self, split: str | None = None) -> str:
        """How a message about the training rows, or about `split`, begins: the option, then the
        file or data set."""
        if self.trained is not None:
            held_out = self.trained.rows if split is None else self.trained.test
            return "" if held_out is None else f"{held_out.option}: {held_out.name}"
        file = None if split is None else self.config.file_of(split)
        return (
            f"--task.path: {self.config.path}" if file is None else f"--task.{split}_path: {file}"
        )

    def columns(self, rows: Dataset, wanted: Sequence[str], split: str | None) -> Dataset:
        """The rows with these columns alone. Raises UserError for one that is not there."""
        known = rows.column_names
        if missing := [name for name in wanted if name not in known]:
            raise UserError(
                f"{self.origin(split)} has no column {missing[0]!r}; it has: {', '.join(known)}"
            )
        return rows.select_columns(list(wanted))

    @property
    def label_scale(self) -> Any:
        """The scale on which the numbers of a regression are learned; None: as they are, or labels
        are no numbers."""
        return None

    @property
    def classes(self) -> Sequence[str]:
        """The names of the labels; none for numbers and for language."""
        return ()

    def class_numbers(self, labels: Iterable[str], split: str | None) -> dict[str, int]:
        """Label -> the number of its class. Raises UserError for a label that is no class.

        Rows for a trained head may name its classes in other capitals, or give their numbers."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        labels = set(labels)
        if self._are_numbers:
            numbers = {str(number): number for number in numbers.values()}
        elif self.trained is not None:
            folded = {name.casefold(): number for name, number in numbers.items()}
            for label in labels - numbers.keys():
                if label.casefold() in folded:
                    numbers[label] = folded[label.casefold()]
        if unknown := sorted(labels - numbers.keys()):
            where = "in the training rows" if self.trained is None else "among those of the head"
            raise UserError(
                f"{self.origin(split)}: label {unknown[0]!r:.60} does not occur {where}; known: "
                f"{', '.join(self.classes[:20])}"
            )
        return numbers

    @cached_property
    def _are_numbers(self) -> bool:
        """Whether the labels of the rows that are measured are the numbers of the head's classes,
        which begin with 0, and not their names."""
        if self.trained is None:
            return False
        labels = self.labels_of(self.raw.train)
        numbers = {str(number) for number in range(len(self.classes))}
        return "0" in labels and labels <= numbers and not labels <= set(self.classes)

    def labels_of(self, rows: Dataset) -> set[str]:
        """The labels that rows have, where they are names."""
        return set()

    def classes_of(self, names: list[str]) -> list[str]:
        """The names of the classes: `names`, which the rows have, or those of a trained head.

        Raises UserError where nobody has named the classes of a trained head, and the rows have
        other classes than it has outputs."""
        trained = self.trained
        if trained is None or trained.outputs is None:
            return names
        numbers = [str(number) for number in range(trained.outputs)]
        if not trained.classes and "0" in names and set(names) <= set(numbers):
            return numbers
        if not trained.classes and len(names) != len(numbers):
            raise UserError(
                f"{self.origin()}: has the classes {', '.join(names[:20])}, and the head has "
                f"{len(numbers)} without names; give them as numbers from 0"
            )
        return list(trained.classes) or names

    def head(self) -> Mapping[str, Any]:
        """Configuration values of the model's head."""
        names = dict(enumerate(self.classes))
        labels = {name: number for number, name in names.items()}
        return {"num_labels": len(names), "id2label": names, "label2id": labels} if names else {}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch, which the model computes itself (see `adapt`). Scalar."""
        return model_loss(model, batch)

    def adapt(self, model: PreTrainedModel) -> None:
        """Replaces the loss of a freshly loaded model where the task has its own."""
        return

    @abstractmethod
    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, split: str | None = None
    ) -> Dataset:
        """The rows of `prepared` with the model's inputs, `labels` and `length` (in tokens)."""

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        """Rows of `encode` -> one batch, padded to its longest row. A plain dict: Betty would make
        a tuple of the keys of transformers' BatchEncoding."""
        pad = self.collator(tokenizer=for_batches(tokenizer), pad_to_multiple_of=PAD_TO)
        known = {*tokenizer.model_input_names, "labels"}
        return lambda rows: dict(
            pad([{name: row[name] for name in row if name in known} for row in rows])
        )

    @abstractmethod
    def predicted(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What `metrics` reads of the model's outputs for each row of a batch [rows, numbers]."""

    @abstractmethod
    def metrics(self, predicted: np.ndarray, rows: Dataset, loss: float) -> dict[str, float]:
        """The task's metrics, the main one first, from `predicted` [rows, numbers], the rows of
        `encode`, and the mean loss over all labels. A row with fewer numbers than others is filled
        up with zeros."""

    def predictions(self, predicted: np.ndarray, rows: Dataset) -> pd.DataFrame | None:
        """The table of predictions.csv, from the arguments of `metrics`; None: the task writes no
        such file."""
        return None

    def score(self, metrics: Mapping[str, float]) -> float:
        """The number that a choice on D_val maximises: the first metric, or minus it if less is
        better."""
        name, value = next((name, value) for name, value in metrics.items() if name != "loss")
        return -value if name in ERRORS else value

    def ordered(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics with those first that were asked for, in their order."""
        first = [name for name in self.config.reported if name in metrics]
        return {name: metrics[name] for name in (*first, *metrics)}
