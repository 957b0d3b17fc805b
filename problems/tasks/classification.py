"""One label per text or pair of texts, a class or a number: the shared part of GLUE, the sample and users' tables."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from peft import TaskType
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerBase

from autolora.problems.tasks.base import PAD_TO, Collate, Task
from autolora.problems.tasks.padding import for_batches
from autolora.problems.tasks.split_names import rows_in_words

log = logging.getLogger("autolora.inputs")

PREDICTED = ("label", "predicted", "probability", "split")
"""The columns that predictions.csv may have beside the texts; `split` is there if several splits are evaluated."""
Metric = Callable[[np.ndarray, np.ndarray], float]


def _matthews(labels: np.ndarray, predicted: np.ndarray) -> float:
    # With one class alone it is 0, as scikit-learn says, but that warns about the shape of its confusion matrix.
    if np.ptp(labels) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(matthews_corrcoef(labels, predicted))


CLASS_METRICS: dict[str, Metric] = {
    "accuracy": lambda labels, predicted: float(accuracy_score(labels, predicted)),
    "matthews": _matthews,
    "f1_macro": lambda labels, predicted: float(f1_score(labels, predicted, average="macro")),
}


def _correlation(function: Callable[..., Any]) -> Metric:
    def correlation(labels: np.ndarray, predicted: np.ndarray) -> float:
        # A model that predicts one number for all rows has no correlation: it learned nothing, which is no error.
        if np.ptp(predicted) == 0 or np.ptp(labels) == 0:
            return 0.0
        return float(function(labels, predicted).statistic)

    return correlation


NUMBER_METRICS: dict[str, Metric] = {
    "spearman": _correlation(stats.spearmanr),
    "pearson": _correlation(stats.pearsonr),
    "mse": lambda labels, predicted: float(np.mean((labels - predicted) ** 2)),
}


class TextClassification(Task):
    """Texts and their labels. `classes` are the names of the labels; empty for regression.

    A subclass may set `label_scale`: then the encoded labels of a regression are on that scale, and `metrics` computes
    in the units of the rows."""

    auto_class = AutoModelForSequenceClassification
    peft_type = TaskType.SEQ_CLS

    def __init__(
        self, columns: Sequence[str], max_length: int, metric_names: Sequence[str], *, regression: bool = False
    ) -> None:
        self.columns = list(columns)
        self.max_length = max_length
        self.regression = regression
        known = NUMBER_METRICS if regression else CLASS_METRICS
        self._metrics = {name: known[name] for name in metric_names}
        self.classes: list[str] = []

    @property
    def inputs(self) -> Sequence[str]:
        return self.columns

    def head(self) -> Mapping[str, Any]:
        if self.regression:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(self.classes),
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(self.classes)),
            "label2id": {name: index for index, name in enumerate(self.classes)},
        }

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        # datasets hashes everything that the function refers to; hashing `self` would take seconds.
        columns, max_length, regression, scale = self.columns, self.max_length, self.regression, self.label_scale

        def labels_of(labels: list[Any]) -> list[float] | list[int]:
            if not regression:
                return [int(label) for label in labels]
            numbers = [float(label) for label in labels]
            return numbers if scale is None else scale.scaled(numbers)

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            texts = [batch[column] for column in columns]
            found = tokenizer(*texts, truncation=True, max_length=max_length)
            encoded = dict(found)
            encoded["labels"] = labels_of(batch["label"])
            encoded["length"] = [len(ids) for ids in encoded["input_ids"]]
            if found.encodings:
                encoded["cut"] = [bool(encoding.overflowing) for encoding in found.encodings]
            else:  # a tokenizer written in Python does not tell what it has cut
                whole = tokenizer(*texts, verbose=False)["input_ids"]
                encoded["cut"] = [len(ids) > max_length for ids in whole]
            return encoded

        encoded_rows = rows.map(tokens, batched=True, remove_columns=rows.column_names, desc="tokenise")
        if cut := sum(encoded_rows["cut"]):
            of_all = rows_in_words(rows)
            log.warning("%d of %s are longer than task.max_length %d and were cut", cut, of_all, max_length)
        return encoded_rows.remove_columns(["cut"])

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        pad = DataCollatorWithPadding(for_batches(tokenizer), pad_to_multiple_of=PAD_TO)
        # Betty takes plain dicts only: transformers' BatchEncoding would become a tuple of its keys.
        return lambda rows: dict(pad([{k: v for k, v in row.items() if k != "length"} for row in rows]))

    def metrics(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset | None = None) -> dict[str, float]:
        predicted = outputs.reshape(len(labels)) if self.regression else outputs.argmax(axis=-1)
        if self.label_scale is not None:
            labels, predicted = self.label_scale.restored(labels), self.label_scale.restored(predicted)
        return {name: metric(labels, predicted) for name, metric in self._metrics.items()}

    def predicted_rows(self, outputs: np.ndarray, raw: Dataset) -> pd.DataFrame:
        """Columns: the texts; `label`; `predicted`; and for classes `probability`, the model's for the predicted
        class. A column of texts with a name in PREDICTED gets "(text)" behind its name."""
        found = {column if column not in PREDICTED else f"{column} (text)": raw[column][:] for column in self.columns}
        if self.regression:
            numbers = outputs.reshape(len(raw)).astype(float)
            restored = numbers if self.label_scale is None else self.label_scale.restored(numbers)
            return pd.DataFrame(found | {"label": raw["label"][:], "predicted": restored})
        probability = softmax(outputs.astype(float), axis=-1)
        names = np.asarray(self.classes, dtype=object)
        return pd.DataFrame(found | {
            "label": names[raw["label"][:]], "predicted": names[outputs.argmax(axis=-1)],
            "probability": probability.max(axis=-1),
        })  # fmt: skip
