"""GLUE tasks from the hub, or from a local folder in the hub's layout."""

from __future__ import annotations

from typing import Any

from datasets import Dataset, load_dataset

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.offline import explain_missing
from problems.tasks.base import Rows
from problems.tasks.classification import TextClassification

# Task -> (text columns, the paper's metric).
GLUE: dict[str, tuple[tuple[str, ...], str]] = {
    "cola": (("sentence",), "matthews"),
    "sst2": (("sentence",), "accuracy"),
    "mrpc": (("sentence1", "sentence2"), "accuracy"),
    "qqp": (("question1", "question2"), "accuracy"),
    "qnli": (("question", "sentence"), "accuracy"),
    "rte": (("sentence1", "sentence2"), "accuracy"),
    "wnli": (("sentence1", "sentence2"), "accuracy"),
}


class Glue(TextClassification):
    """One GLUE classification task, by the hub's columns."""

    def __init__(self, config: TaskConfig) -> None:
        if config.name not in GLUE:
            raise UserError(f"--task.name: {config.name!r} is not allowed; allowed: {', '.join(GLUE)}")
        columns, metric = GLUE[config.name]
        super().__init__(columns, config.max_length, [metric])
        self.name = config.name
        self.path = config.path
        self.evaluation_split = config.evaluation_split or "validation"

    def rows(self) -> Rows:
        with explain_missing("--task.path", f"{self.path}, {self.name}"):
            splits = load_dataset(self.path, self.name)
        train, evaluation = (self._split(splits, name) for name in ("train", self.evaluation_split))
        self.classes = list(getattr(train.features["label"], "names", None) or map(str, sorted(set(train["label"]))))
        return Rows(train, evaluation)

    def _split(self, splits: Any, name: str) -> Dataset:
        if name not in splits:
            raise UserError(f"--task.evaluation_split: {self.path} has no split {name!r}; it has: {', '.join(splits)}")
        rows = splits[name]
        missing = [c for c in (*self.columns, "label") if c not in rows.column_names]
        if missing:
            raise UserError(
                f"--task.path: split {name!r} of {self.path} has no column {', '.join(missing)}; "
                f"it has: {', '.join(rows.column_names)}"
            )
        return rows
