"""One label per text or pair of texts, a class or a number: users' tables, GLUE and the program's
own sentences."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from datasets import ClassLabel, Dataset
from peft import TaskType
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, mean_squared_error
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)

from autolora.configs.errors import UserError
from autolora.problems.rows import Collate
from autolora.problems.tasks.base import PROGRAM, Task

Metric = Callable[..., Any]
"""Labels and predictions [rows] -> a number."""


def _correlation(of: Metric, labels: np.ndarray, predicted: np.ndarray) -> Any:
    """0 where all labels or all predictions are equal: a model that predicts one value has learned
    nothing."""
    return 0.0 if 0 in (np.ptp(labels), np.ptp(predicted)) else of(labels, predicted).statistic


METRICS: dict[str, Metric] = {
    "accuracy": accuracy_score,
    "matthews": matthews_corrcoef,
    "f1_macro": partial(f1_score, average="macro"),
    "spearman": partial(_correlation, stats.spearmanr),
    "pearson": partial(_correlation, stats.pearsonr),
    "mse": mean_squared_error,
}


@dataclass(frozen=True)
class LabelScale:
    """The scale on which numbers are learned: (label - mean) / deviation, both of the training
    rows.

    A new head starts near 0, and its learning rate is for outputs of about the size 1. Numbers such
    as prices would be out of its reach, and the outer gradient with eta `betty` grows with the
    square of the loss.
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: Sequence[float]) -> Self:
        """The scale of these labels."""
        return cls(float(np.mean(labels)), float(np.std(labels)))

    @property
    def needs_fp32(self) -> bool:
        """Whether a model that predicts in the units of the file must compute its output in fp32:
        bf16 rounds a number by up to its 256th part, which is a 25th of a deviation where the mean
        is 10 deviations."""
        return abs(self.mean) > 10 * self.deviation

    def scaled(self, label: float) -> float:
        """A label as the model learns it."""
        return (label - self.mean) / self.deviation

    def restored(self, values: np.ndarray) -> np.ndarray:
        """The model's outputs in the units of the file."""
        return values.astype(float) * self.deviation + self.mean

    @torch.no_grad()
    def into_head(self, model: nn.Module) -> bool:
        """Changes the trained head so that `model` predicts in the units of the file.

        Does nothing and returns False if the output layer has no bias (most decoders) or more than
        one output."""
        layers = [
            layer
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear)
            and layer.out_features == 1
            and layer.weight.requires_grad
            if "lora_" not in name
        ]
        if not layers or layers[-1].bias is None:
            return False
        output = layers[-1]  # a model defines its head after its body
        output.weight.mul_(self.deviation)
        output.bias.mul_(self.deviation).add_(self.mean)
        return True


class Texts(Task):
    """Texts and their labels, which are classes or, in a regression, numbers."""

    auto_class = AutoModelForSequenceClassification
    peft_type = TaskType.SEQ_CLS
    collator = DataCollatorWithPadding

    @property
    def regression(self) -> bool:
        """Whether labels are numbers."""
        return bool(self.config.kind == "regression")

    def inputs_of(self, rows: Dataset) -> list[str]:
        found: list[str] | None = self.config.text_columns
        return found or [
            "sentence"
            if "sentence" in rows.column_names and "text" not in rows.column_names
            else "text"
        ]

    @property
    def _label(self) -> str:
        return self.config.label_column or "label"

    def prepared(self, rows: Dataset, split: str | None) -> Dataset:
        found = self.columns(rows, [*self.inputs_of(rows), self._label], split)
        for name in found.column_names:
            cells = pd.Series(found[name][:], dtype=object)
            empty = np.flatnonzero(cells.isna() | (cells.astype(str).str.strip() == ""))
            if len(empty):
                rows_of_it = (
                    f"{len(empty)} rows have nothing in column {name!r}, the first is row "
                    f"{empty[0] + 1}"
                )
                raise UserError(f"{self.origin(split)}: {rows_of_it}")
        return found

    @cached_property
    def classes(self) -> list[str]:
        """The names of the classes: those of a trained head, else those in the type of the column,
        else those that the labels have, numbers first.

        Raises UserError for fewer than two classes."""
        if self.regression:
            return []
        feature = self.raw.train.features[self._label]
        if isinstance(feature, ClassLabel):
            return self.classes_of(list(feature.names))
        found = {name for rows in self.raw.learnable for name in self._names(rows)}
        numbers = {name for name in found if name.removeprefix("-").isdecimal()}
        names = [*sorted(sorted(numbers), key=int), *sorted(found - numbers)]
        if self.trained is None and len(names) < 2:
            raise UserError(
                f"{self.origin()}: column {self._label!r} has one label alone, {names[0]!r}"
            )
        return self.classes_of(names)

    def labels_of(self, rows: Dataset) -> set[str]:
        return set() if self.regression else set(self._names(rows))

    def _names(self, rows: Dataset) -> list[str]:
        """The name of each row's class: 1 and 1.0 (parquet, JSON), "1" and " 1" (CSV) are one
        class."""
        feature = rows.features[self._label]
        names = dict(enumerate(feature.names)) if isinstance(feature, ClassLabel) else {}
        cells = (
            int(x) if isinstance(x, float) and x.is_integer() else x for x in rows[self._label][:]
        )
        return [names.get(cell, str(cell).strip()) for cell in cells]

    def _labels(self, rows: Dataset, split: str | None) -> list[Any]:
        """The numbers of the classes, or the numbers to learn. Raises UserError for a class that
        the training rows do not have, and for what is no number."""
        if self.regression:
            try:
                numbers = list(map(float, rows[self._label][:]))
            except (TypeError, ValueError):
                numbers = [math.nan]
            if not np.isfinite(numbers).all():
                raise UserError(
                    f"{self.origin(split)}: column {self._label!r} has labels that are no numbers"
                )
            return numbers
        found = self._names(rows)
        places = self.class_numbers(found, split)
        return [places[name] for name in found]

    @cached_property
    def label_scale(self) -> LabelScale | None:
        if not self.regression or self.trained is not None:
            return None
        numbers = self._labels(self.raw.train, None)
        if len(set(numbers)) < 2:
            raise UserError(
                f"{self.origin()}: column {self._label!r} has one number alone, {numbers[0]:g}"
            )
        return LabelScale.of(numbers)

    def head(self) -> Mapping[str, Any]:
        if self.regression:
            return {"num_labels": 1, "problem_type": "regression"}
        return {"problem_type": "single_label_classification", **super().head()}

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, split: str | None = None
    ) -> Dataset:
        """As for every task; `texts` are those of the row, and numbers are in the units of the
        file."""
        # datasets hashes everything that the function refers to; hashing `self` would take seconds.
        columns = self.inputs_of(rows)
        max_length = self.config.max_length

        def tokens(batch: dict[str, list[Any]], program: str = PROGRAM) -> dict[str, Any]:
            texts = [batch[column] for column in columns]
            found = tokenizer(*texts, truncation=True, max_length=max_length)
            return {
                **found,
                "length": list(map(len, found["input_ids"])),
                "texts": list(zip(*texts, strict=True)),
            }

        encoded = rows.map(tokens, batched=True, remove_columns=rows.column_names, desc="tokenise")
        return encoded.add_column("labels", self._labels(rows, split))

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        collate = super().collate(tokenizer)
        scale = self.label_scale
        if scale is None:
            return collate
        # Before they become fp32, in which a number of years would be too coarse.
        return lambda rows: collate(
            [{**row, "labels": scale.scaled(row["labels"])} for row in rows]
        )

    def predicted(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The number; or the class and its probability."""
        if self.regression:
            return logits.reshape(len(labels), 1)
        best = logits.float().softmax(dim=-1).max(dim=-1)
        return torch.stack([best.indices, best.values], dim=1)

    def metrics(self, predicted: np.ndarray, rows: Dataset, loss: float) -> dict[str, float]:
        labels = np.array(rows["labels"][:])
        found = self._restored(predicted)
        return {name: float(METRICS[name](labels, found)) for name in self.config.reported}

    def _restored(self, predicted: np.ndarray) -> np.ndarray:
        """The predicted numbers in the units of the file, or the numbers of the classes [rows]."""
        scale = self.label_scale
        return predicted[:, 0] if scale is None else scale.restored(predicted[:, 0])

    def predictions(self, predicted: np.ndarray, rows: Dataset) -> pd.DataFrame:
        """Columns: the texts; `label`; `predicted`; and for classes `probability`, the model's for
        that class."""
        table = pd.DataFrame(rows["texts"][:], columns=self.inputs_of(self.raw.train))
        labels = rows["labels"][:]
        best = self._restored(predicted)
        if self.regression:
            return table.assign(label=labels, predicted=best)
        names = np.asarray(self.classes, dtype=object)
        return table.assign(
            label=names[labels], predicted=names[best.astype(int)], probability=predicted[:, 1]
        )
