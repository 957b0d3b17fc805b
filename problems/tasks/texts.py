"""One label per text or pair of texts, a class or a number: users' tables, GLUE and the program's own sentences."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset
from peft import TaskType
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.tasks import Glue, Sample, Table
from autolora.problems.rows import keys_of
from autolora.problems.tasks.base import NOT_OF_MODEL, PAD_TO, PROGRAM, Collate, Rows, Task, for_batches
from autolora.problems.tasks.label_scale import LabelScale
from autolora.problems.tasks.labels import head_of, label_text, tell_classes
from autolora.problems.tasks.sources import origin, read

log = logging.getLogger("autolora.inputs")

PREDICTED = ("label", "predicted", "probability", "split")
"""The columns that predictions.csv may have beside the texts; `split` is there if several splits are evaluated."""
MOST_CLASSES = 1000
Metric = Callable[[np.ndarray, np.ndarray], float]


def _unless_constant(function: Metric) -> Metric:
    """0 where all labels or all predictions are equal: a model that predicts one value has learned nothing."""

    def found(labels: np.ndarray, predicted: np.ndarray) -> float:
        return 0.0 if np.ptp(labels) == 0 or np.ptp(predicted) == 0 else float(function(labels, predicted))

    return found


CLASS_METRICS: dict[str, Metric] = {
    "accuracy": lambda labels, predicted: float(accuracy_score(labels, predicted)),
    "matthews": _unless_constant(matthews_corrcoef),
    "f1_macro": lambda labels, predicted: float(f1_score(labels, predicted, average="macro")),
}
NUMBER_METRICS: dict[str, Metric] = {
    "spearman": _unless_constant(lambda labels, predicted: stats.spearmanr(labels, predicted).statistic),
    "pearson": _unless_constant(lambda labels, predicted: stats.pearsonr(labels, predicted).statistic),
    "mse": lambda labels, predicted: float(np.mean((labels - predicted) ** 2)),
}


class Texts(Task):
    """Texts and their labels. `classes` are the names of the labels; empty for numbers, which are learned on the scale
    `label_scale`. Both, and `columns`, are known after `rows`."""

    auto_class = AutoModelForSequenceClassification
    peft_type = TaskType.SEQ_CLS

    def __init__(self, config: Table | Glue | Sample, seed: int) -> None:
        self.config, self.seed = config.table, seed
        self.name, self.evaluation_split = config.result_name, self.config.evaluated_split
        self.columns = list(self.config.text_columns or ())
        self.label = self.config.label_column or "label"
        self.regression = self.config.kind == "regression"
        known = NUMBER_METRICS if self.regression else CLASS_METRICS
        asked = self.config.metrics or (["spearman", "pearson"] if self.regression else ["accuracy"])
        self._metrics = {name: known[name] for name in asked}
        self.classes: list[str] = []

    @property
    def inputs(self) -> Sequence[str]:
        return self.columns

    def rows(self) -> Rows:
        raw = read(self.config, self.seed, self._texts)
        self.held_out, self.evaluation_split = raw.held_out, "+".join(raw.evaluation)
        if not raw.held_out:
            self._find_classes(raw.train)
        if self.regression:
            labels = self._labels(raw.train, None)
            if np.ptp(labels) == 0:
                raise UserError(f"{self.origin()} has the one number {labels[0]:g}; two or more are needed")
            self.label_scale = LabelScale.told(labels.tolist(), f"{len(labels)} training rows of {self.name}")
        for split, rows in raw.evaluation.items() if not raw.held_out else ():
            self._require(rows, split)
            self._labels(rows, split)
        return Rows(raw.train, raw.evaluation, raw.source)

    def _texts(self, train: Dataset) -> np.ndarray:
        """A number for each row that is equal for equal texts. Before rows are held out, the classes are found in all
        of them."""
        self._find_classes(train)
        return keys_of(train, self.columns)

    def _find_classes(self, train: Dataset) -> None:
        """The names of the classes: those in the type of the column, else those that the labels have, numbers first.

        Raises UserError for fewer than two classes, for more than MOST_CLASSES, and as `_require` does."""
        self._require(train, None)
        if self.regression:
            return
        if isinstance(feature := train.features[self.label], ClassLabel):
            self.classes = list(feature.names)
        else:
            names = {label_text(value) for value in _cells(train, self.label).unique().to_pylist()}
            if not 2 <= len(names) <= MOST_CLASSES:
                raise UserError(
                    f"{self.origin()}: column {self.label!r} has {len(names)} different labels; allowed: 2 to "
                    f"{MOST_CLASSES} classes; to learn numbers, set --task.kind regression"
                )
            self.classes = sorted(names, key=lambda name: (0, int(name), name) if _is_whole(name) else (1, 0, name))
        told = f"{len(train)} rows of {self.config.result_name}"
        tell_classes(told, self.classes, self._labels(train, None).tolist())

    def _require(self, rows: Dataset, split: str | None) -> None:
        """Raises UserError for a column that is missing, and for rows that have nothing in it."""
        known = rows.column_names
        self.columns = self.columns or (["text"] if "text" in known or "sentence" not in known else ["sentence"])
        for column in (*self.columns, self.label):
            if column not in known:
                raise UserError(f"{self.origin(split)} has no column {column!r}; it has: {', '.join(known)}")
            cells = _cells(rows, column)
            empty = pc.is_null(cells, nan_is_null=True).to_numpy()
            if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
                empty = empty | pc.equal(pc.utf8_trim_whitespace(cells), "").fill_null(True).to_numpy()
            if empty.any():
                raise UserError(
                    f"{self.origin(split)}: {empty.sum()} rows have nothing in column {column!r}, the first is row "
                    f"{empty.argmax() + 1}; fill it in or remove them"
                )

    def _labels(self, rows: Dataset, split: str | None) -> np.ndarray:
        """The numbers of the classes [rows], or the numbers to learn. Raises UserError for a label that is neither, or
        a class that the training rows do not have."""
        cells, where = _cells(rows, self.label).combine_chunks(), self.origin(split)
        if self.regression:
            try:
                cells = pc.utf8_trim_whitespace(cells) if pa.types.is_string(cells.type) else cells
                numbers = np.asarray(pc.cast(cells, "float64").to_numpy(zero_copy_only=False))
            except pa.ArrowInvalid as error:
                raise UserError(f"{where}: column {self.label!r}: {error}") from error
            if not np.isfinite(numbers).all():
                raise UserError(f"{where}: column {self.label!r} has numbers that are not finite")
            return numbers
        encoded, places = cells.dictionary_encode(), self._places(rows)
        names = [label_text(value) for value in encoded.dictionary.to_pylist()]
        if unknown := [name for name in names if name not in places]:
            raise UserError(
                f"{where}: label {unknown[0]!r:.60} does not occur in the training rows; known: "
                f"{', '.join(self.classes[:20])}"
            )
        return np.array([places[name] for name in names])[encoded.indices.to_numpy()]

    def _places(self, rows: Dataset) -> dict[str, int]:
        """The number of each class, by the text of a label."""
        places = {name: number for number, name in enumerate(self.classes)}
        if isinstance(feature := rows.features[self.label], ClassLabel):
            return {str(number): places[name] for number, name in enumerate(feature.names) if name in places}
        return places

    def origin(self, split: str | None = None) -> str:
        return origin(self.config, split)

    def head(self) -> Mapping[str, Any]:
        if self.regression:
            return {"num_labels": 1, "problem_type": "regression"}
        return {"problem_type": "single_label_classification", **head_of(self.classes)}

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        # datasets hashes everything that the function refers to; hashing `self` would take seconds.
        columns, label, max_length, scale = self.columns, self.label, self.config.max_length, self.label_scale
        places = None if self.regression else self._places(rows)

        def tokens(batch: dict[str, list[Any]], program: str = PROGRAM) -> dict[str, Any]:
            found = tokenizer(*(batch[column] for column in columns), truncation=True, max_length=max_length)
            labels: list[Any] = batch[label]
            if places is not None:
                labels = [places[label_text(name)] for name in labels]
            else:
                labels = scale.scaled(list(map(float, labels))) if scale else list(map(float, labels))
            cut = [bool(encoding.overflowing) for encoding in found.encodings or ()] or [False] * len(labels)
            return {**found, "labels": labels, "length": [len(ids) for ids in found["input_ids"]], "cut": cut}

        encoded = rows.map(tokens, batched=True, remove_columns=rows.column_names, desc="tokenise")
        if cut := sum(encoded["cut"][:]):
            log.warning("%d of %d rows are longer than task.max_length %d and were cut", cut, len(rows), max_length)
        return encoded.remove_columns(["cut"])

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        pad = DataCollatorWithPadding(for_batches(tokenizer), pad_to_multiple_of=PAD_TO)
        # Betty takes plain dicts only: transformers' BatchEncoding would become a tuple of its keys.
        return lambda rows: dict(pad([{k: v for k, v in row.items() if k not in NOT_OF_MODEL} for row in rows]))

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
            return pd.DataFrame(found | {"label": self._labels(raw, None), "predicted": restored})
        names, best = np.asarray(self.classes, dtype=object), outputs.argmax(axis=-1)
        probability = softmax(outputs.astype(float), axis=-1).max(axis=-1)
        labels = {"label": names[self._labels(raw, None)], "predicted": names[best], "probability": probability}
        return pd.DataFrame(found | labels)


def _cells(rows: Dataset, column: str) -> pa.ChunkedArray:
    return rows.select_columns([column]).with_format("arrow")[:][column]


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
