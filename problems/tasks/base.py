"""The interface of a task: what the rest of the program reads and calls."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from datasets import Dataset
from peft import TaskType
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.configs.tasks import ERRORS
from autolora.problems.tasks.kind import own_loss
from autolora.problems.tasks.label_scale import LabelScale

if TYPE_CHECKING:
    import pandas as pd

PAD_TO = 8
"""Batches are padded to a multiple of this: GPUs multiply such matrices faster."""

Collate = Callable[[list[dict[str, Any]]], dict[str, Tensor]]


_FILES = sorted(Path(__file__).parent.glob("*.py"))
PROGRAM = hashlib.sha256(b"".join(file.read_bytes() for file in _FILES)).hexdigest()
"""Of the modules that encode rows. `datasets` would return rows that an older program has encoded: it knows a function
by its name alone."""

NOT_OF_MODEL = {"length", "group", "source", "tokens", "tags", "words"}
"""Columns of encoded rows that the model does not read."""


def for_batches(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, padding on the right: with padding on the left a model with absolute positions reads a row at
    shifted positions. The tokenizer itself keeps its side, as prompts are padded on the left."""
    right = copy(tokenizer)
    right.padding_side = "right"
    return right


@dataclass(frozen=True)
class Rows:
    """Raw rows: the training split (D_tr and D_val together) and the splits to evaluate on, by name.

    `source`: the number and the digest of all rows that were read, which are the same for every seed."""

    train: Dataset
    evaluation: Mapping[str, Dataset]
    source: Mapping[str, Any] | None = None


class Task(ABC):
    """One task: its rows, the model's head and loss, and the metrics.

    `rows` is called first: only then a task knows its classes and the columns that it reads.
    """

    name: str
    evaluation_split: str
    """The split to evaluate on; `rows` may change it, if the data has other splits."""
    held_out: bool = False
    """Whether `rows` took the evaluated rows out of the training rows; set by `rows`."""
    auto_class: ClassVar[Any]
    """transformers' Auto class with the right head."""
    peft_type: ClassVar[TaskType]
    label_scale: LabelScale | None = None
    """The scale on which the numbers of a regression are learned; None: as they are, or the labels are no numbers. Set
    by `rows`."""
    tokenizer_options: ClassVar[Mapping[str, Any]] = {}
    """Options with which the tokenizer must be loaded."""
    reads_outputs: ClassVar[bool] = True
    """Whether `metrics` reads the model's outputs. False for a language model, whose outputs would fill the memory."""

    @property
    @abstractmethod
    def inputs(self) -> Sequence[str]:
        """The columns of `rows` that the model reads; known after `rows` was called."""

    @abstractmethod
    def rows(self) -> Rows:
        """The raw rows. Raises UserError when they cannot be loaded or lack a column."""

    def origin(self, split: str | None = None) -> str:
        """How a message about the training rows, or about `split`, begins: the option, then the file or data set."""
        return f"--task.type: {self.name}"

    @abstractmethod
    def head(self) -> Mapping[str, Any]:
        """Configuration values of the model's head; known after `rows` was called."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch, which the model computes itself (see `adapt`). Scalar."""
        return own_loss(model, batch)

    def adapt_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Changes a freshly loaded tokenizer as the task needs. Raises UserError for a setting that cannot be used."""
        return

    def adapt(self, model: PreTrainedModel) -> None:
        """Replaces the loss of a freshly loaded model where the task has its own."""
        return

    @abstractmethod
    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The model's inputs with `labels`, `length` (in tokens), and the other columns that `metrics` reads."""

    @abstractmethod
    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        """Rows of `encode` -> one batch as a plain dict, padded to its longest row."""

    def combine(self, by_split: Mapping[str, dict[str, float]]) -> dict[str, float]:
        """The metrics of the evaluation split; of several, their means and those of each, such as accuracy_matched of
        the split validation_matched."""
        first, *others = by_split.values()
        if not others:
            return first
        metrics: dict[str, float] = {}
        for name in first:
            values = {split.rsplit("_", 1)[-1]: found[name] for split, found in by_split.items()}
            metrics[name] = sum(values.values()) / len(values)
            metrics |= {f"{name}_{split}": value for split, value in values.items() if name != "loss"}
        return metrics

    def score(self, metrics: Mapping[str, float]) -> float:
        """The number that a choice on D_val maximises: the first metric, or minus it if less is better."""
        name, value = next((name, value) for name, value in metrics.items() if name != "loss")
        return -value if name in ERRORS else value

    @abstractmethod
    def metrics(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> dict[str, float]:
        """The task's metrics, the main one first, from the model's outputs [examples, ...].

        labels [examples, ...]: those of the batches, padded with -100; rows: those of `encode`, in the same order.
        """

    def ordered(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics with the main one first."""
        return dict(metrics)

    def token_metrics(self, loss: float, accuracy: float) -> dict[str, float]:
        """The metrics of a task with `reads_outputs` False.

        loss: mean over the labels; accuracy: share of the labels that have the largest logit.
        """
        return {}

    def example(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> str | None:
        """A log line about an encoded row: what the model is given and what it learns. None: nothing is logged."""
        return None

    def predictions(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> str | None:
        """The text of predictions.txt, from the arguments of `metrics`; None: the task writes no such file."""
        return None

    def predicted_rows(self, outputs: np.ndarray, raw: Dataset) -> "pd.DataFrame | None":
        """The table of predictions.csv, a row for each evaluated row; None: the task writes no such file.

        outputs: those of `metrics`; raw: the rows before `encode`, in the same order.
        """
        return None
