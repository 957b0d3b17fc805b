"""Text and text-pair classification and regression: the shared part of GLUE and the sample task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from peft import TaskType
from sklearn.metrics import accuracy_score, matthews_corrcoef
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerBase

from problems.tasks.base import Collate, Task

Metric = Callable[[np.ndarray, np.ndarray], float]

METRICS: dict[str, Metric] = {
    "accuracy": lambda labels, predicted: float(accuracy_score(labels, predicted)),
    "matthews": lambda labels, predicted: float(matthews_corrcoef(labels, predicted)),
}


class TextClassification(Task):
    """One label per text (or pair of texts)."""

    auto_class = AutoModelForSequenceClassification
    peft_type = TaskType.SEQ_CLS

    def __init__(self, columns: Sequence[str], max_length: int, metric_names: Sequence[str]) -> None:
        self.columns = list(columns)
        self.max_length = max_length
        self.metric_names = list(metric_names)
        self.classes: list[str] = []

    def head(self) -> Mapping[str, Any]:
        return {
            "num_labels": len(self.classes),
            "id2label": dict(enumerate(self.classes)),
            "label2id": {name: index for index, name in enumerate(self.classes)},
        }

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded = dict(tokenizer(*(batch[c] for c in self.columns), truncation=True, max_length=self.max_length))
            encoded["labels"] = batch["label"]
            encoded["length"] = [len(ids) for ids in encoded["input_ids"]]
            return encoded

        return rows.map(tokens, batched=True, remove_columns=rows.column_names, desc="tokenise")

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        pad = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)
        # Betty takes plain dicts only: transformers' BatchEncoding would become a tuple of its keys.
        return lambda rows: dict(pad([{k: v for k, v in row.items() if k != "length"} for row in rows]))

    def metrics(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        predicted = outputs.argmax(axis=-1)
        return {name: METRICS[name](labels, predicted) for name in self.metric_names}
