"""GLUE tasks from the hub, or from a local folder in the hub's layout."""

from collections.abc import Mapping
from typing import Any

from datasets import ClassLabel, Dataset, Value

from autolora.configs import tasks
from autolora.configs.errors import UserError
from autolora.problems.columns import listed
from autolora.problems.tasks.base import Rows
from autolora.problems.tasks.classification import TextClassification
from autolora.problems.tasks.label_scale import LabelScale
from autolora.problems.tasks.labels import find_classes, number_of, refuse_one_number, value_of
from autolora.problems.tasks.readers.hub import load_splits, split_of
from autolora.problems.tasks.readers.numbering import ROW, at

# Task -> (text columns, the paper's metric first). AutoLoRA reports accuracy for MRPC and QQP, not F1.
GLUE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cola": (("sentence",), ("matthews",)),
    "sst2": (("sentence",), ("accuracy",)),
    "mrpc": (("sentence1", "sentence2"), ("accuracy",)),
    "qqp": (("question1", "question2"), ("accuracy",)),
    "mnli": (("premise", "hypothesis"), ("accuracy",)),
    "qnli": (("question", "sentence"), ("accuracy",)),
    "rte": (("sentence1", "sentence2"), ("accuracy",)),
    "wnli": (("sentence1", "sentence2"), ("accuracy",)),
    "stsb": (("sentence1", "sentence2"), ("spearman", "pearson")),
}
OF_NUMBERS = "stsb"
"""The task whose labels are numbers, not classes."""

_MNLI = {"validation": ("validation_matched", "validation_mismatched"), "test": ("test_matched", "test_mismatched")}


class Glue(TextClassification):
    """One GLUE task, with the columns that its rows have on the hub.

    STS-B's numbers are learned with mean 0 and standard deviation 1, where the paper's code takes them as they are
    (0 to 5): a new head would spend a short search on learning their mean.
    """

    def __init__(self, config: tasks.Glue, seed: int) -> None:
        self.name, self.of_glue = config.result_name, config.glue
        columns, metrics = GLUE[config.glue]
        super().__init__(columns, config.max_length, config.metrics or metrics, regression=config.glue == OF_NUMBERS)
        self.path = config.path
        self.revision = config.revision
        self.evaluation_split = config.evaluation_split or "validation"

    def rows(self) -> Rows:
        splits = load_splits(self.path, self.of_glue, self.of_glue, self.revision)
        wanted = _MNLI.get(self.evaluation_split, ()) if self.of_glue == "mnli" else ()
        train = self._split(splits, "train")
        evaluation = {name: self._split(splits, name) for name in wanted or (self.evaluation_split,)}
        for name, rows in evaluation.items():
            if -1 in rows["label"]:
                instead = "" if name.startswith("validation") else "; try validation"
                raise UserError(f"--task.evaluation_split: {name!r} of {self.path} has hidden labels (-1){instead}")
        if not self.regression:
            self.classes = self._find_classes(train)
        checked = self._checked("train", train)
        if self.regression:
            refuse_one_number(f"--task.path: column 'label' of split 'train' of {self.path}", checked["label"][:])
            self.label_scale = LabelScale.told(checked["label"][:], f"{len(checked)} training rows of {self.path}")
        return Rows(checked, {name: self._checked(name, rows) for name, rows in evaluation.items()})

    def _find_classes(self, train: Dataset) -> list[str]:
        """The class names that the hub's files give, else the labels themselves."""
        names = getattr(train.features["label"], "names", None)
        if names:
            return list(names)
        where = f"--task.path: column 'label' of split 'train' of {self.path}"
        return find_classes(where, train["label"][:], "set --task.type text and --task.kind regression")

    def _checked(self, name: str, rows: Dataset) -> Dataset:
        """The rows with numeric labels; raises UserError for a label that is empty, no number or of no known class."""
        numbered = isinstance(rows.features["label"], ClassLabel)
        given = rows["label"][:]
        labels: list[float | int] = []
        for row, label in enumerate(given, 1):
            where = f"--task.path: split {name!r} of {self.path}, {at(ROW, row)}"
            if numbered and not 0 <= label < len(self.classes):
                raise UserError(f"{where}: label {label!r} is not allowed; allowed: 0 to {len(self.classes) - 1}")
            if self.regression:
                labels.append(value_of(where, label))
            else:
                labels.append(label if numbered else number_of(where, label, self.classes))
        # Unchanged rows are returned as they are, so that the package datasets finds them in its cache.
        return rows if labels == given else rows.remove_columns("label").add_column("label", labels)

    def origin(self, split: str | None = None) -> str:
        return f"--task.path: {self.path}, {self.name},"

    def combine(self, by_split: Mapping[str, dict[str, float]]) -> dict[str, float]:
        """For MNLI, the metrics of the matched and of the mismatched rows, and their mean."""
        if len(by_split) == 1:
            return super().combine(by_split)
        metrics: dict[str, float] = {}
        for name in self._metrics:
            values = {split.rsplit("_", 1)[-1]: found[name] for split, found in by_split.items()}
            metrics[name] = sum(values.values()) / len(values)
            metrics |= {f"{name}_{split}": value for split, value in values.items()}
        metrics["loss"] = sum(found["loss"] for found in by_split.values()) / len(by_split)
        return metrics

    def _split(self, splits: Any, name: str) -> Dataset:
        rows: Dataset = split_of(splits, name, self.path)
        missing = [c for c in (*self.columns, "label") if c not in rows.column_names]
        if missing:
            raise UserError(
                f"--task.path: split {name!r} of {self.path} has no column {', '.join(missing)}; "
                f"it has: {listed(rows.column_names)}"
            )
        # Where one split lacks a column that another one has, datasets fills it with null.
        empty = [c for c in (*self.columns, "label") if rows.data.column(c).null_count]
        if empty:
            raise UserError(f"--task.path: split {name!r} of {self.path} has rows without {', '.join(empty)}")
        for column in self.columns:
            kind = rows.features[column]
            if not isinstance(kind, Value) or kind.dtype not in ("string", "large_string"):
                raise UserError(
                    f"--task.path: column {column!r} of split {name!r} of {self.path} holds no texts; allowed: one "
                    f"text a row"
                )
        if not isinstance(rows.features["label"], Value | ClassLabel):
            raise UserError(
                f"--task.path: column 'label' of split {name!r} of {self.path} holds lists or objects; allowed: one "
                f"text or number a row"
            )
        return rows
