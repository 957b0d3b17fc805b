"""A user's own data: texts and labels in a CSV, TSV, JSON Lines or parquet file."""

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.tasks.base import Rows
from problems.tasks.classification import TextClassification
from problems.tasks.readers.splits import evaluation_source, evaluation_split, hold_out, origin
from problems.tasks.readers.table import read_table, require_columns

log = logging.getLogger("autolora")


class TextTable(TextClassification):
    """Classification or regression on a table. Rows are checked when they are read, with the row in the message."""

    def __init__(self, config: TaskConfig, seed: int) -> None:
        regression = config.kind == "regression"
        metrics = config.metrics or (["spearman", "pearson"] if regression else ["accuracy"])
        super().__init__([], config.max_length, metrics, regression=regression)
        self.config = config
        self.seed = seed
        self.train_path = Path(str(config.path))
        self.name = config.name or self.train_path.stem
        self.label_column = config.label_column or "label"
        self.evaluation_split = evaluation_split(config)

    def rows(self) -> Rows:
        train = read_table("--task.path", self.train_path)
        self.columns = self._text_columns(train)
        self._check_columns("--task.path", self.train_path, train)
        if not self.regression:
            self.classes = self._find_classes(train)
        source = evaluation_source(self.config, self.evaluation_split)
        if source.held_out:
            classes = None if self.regression else [_label_text(x) for x in train[self.label_column]]
            kept, held_out = hold_out(len(train), self.config.holdout_share, self.seed, self.train_path, classes)
            train, evaluation = train.iloc[kept], train.iloc[held_out]
        else:
            evaluation = read_table(source.option, source.path)
            self._check_columns(source.option, source.path, evaluation)
        return Rows(
            self._checked("--task.path", self.train_path, train),
            {self.evaluation_split: self._checked(source.option, source.path, evaluation)},
        )

    def origin(self, split: str | None = None) -> str:
        return origin(self.config, split)

    def _text_columns(self, table: pd.DataFrame) -> list[str]:
        if self.config.text_columns is not None:
            return list(self.config.text_columns)
        return ["text"] if "text" in table.columns or "sentence" not in table.columns else ["sentence"]

    def _check_columns(self, option: str, path: Path, table: pd.DataFrame) -> None:
        """Raises UserError for a column that is not there, and for a label that is a list or an object."""
        if "label" in self.columns and self.label_column != "label":  # `_checked` gives that name to the labels
            raise UserError("--task.text_columns: 'label' is not allowed beside another task.label_column; rename it")
        require_columns(option, path, table, [*self.columns, self.label_column])
        for number, value in enumerate(table[self.label_column], 1):
            if not pd.api.types.is_scalar(value):
                raise UserError(
                    f"{option}: {path}, row {number}: column {self.label_column!r} holds "
                    f"{'an object' if isinstance(value, dict) else 'a list'}; allowed: one text or number a row"
                )

    def _find_classes(self, train: pd.DataFrame) -> list[str]:
        labels = [x for x in train[self.label_column] if not _no_label(x)]  # `_checked` refuses their rows
        found = sorted(set(map(_label_text, labels)), key=_number_first)
        if len(found) < 2:
            raise UserError(f"--task.path: {self.train_path} has the one class {found}; two or more are needed")
        if len(found) > 1000:
            raise UserError(
                f"--task.path: column {self.label_column!r} of {self.train_path} has {len(found)} different "
                f"labels; for numbers set --task.kind regression"
            )
        if _are_fractions(found):
            log.warning(
                "--task.path: column %r of %s holds fractional numbers, taken for %d classes (%s, ...); to learn the "
                "number set --task.kind regression", self.label_column, self.train_path, len(found), found[0],
            )  # fmt: skip
        return found

    def _checked(self, option: str, path: Path, table: pd.DataFrame) -> Dataset:
        """Texts and numeric labels; raises UserError with file and row (counted from 1) for what cannot be learned."""
        rows: dict[str, list[Any]] = {column: [] for column in (*self.columns, "label")}
        values = table[[*self.columns, self.label_column]].itertuples(index=False)
        for number, (*texts, answer) in zip(table.index + 1, values, strict=True):
            for column, text in zip(self.columns, texts, strict=True):
                if not isinstance(text, str) or not text.strip():
                    raise UserError(f"{option}: {path}, row {number}: column {column!r} has no text")
                rows[column].append(text)
            rows["label"].append(self._label(option, path, number, answer))
        return Dataset.from_dict(rows)

    def _label(self, option: str, path: Path, number: int, answer: Any) -> float | int:
        where = f"{option}: {path}, row {number}: label {answer!r}"
        if _no_label(answer):
            raise UserError(f"{where} is empty; fill it in or take the row out")
        if self.regression:
            try:
                value = float(answer)
            except (TypeError, ValueError):
                value = math.nan
            if not math.isfinite(value):
                raise UserError(f"{where} is not a number")
            return value
        name = _label_text(answer)
        if name not in self.classes:
            raise UserError(f"{where} does not occur in the training rows; known: {', '.join(self.classes[:10])}")
        return self.classes.index(name)


def _no_label(value: Any) -> bool:
    """Whether a cell is empty, null, or the NaN that a null among numbers is read as."""
    return bool(pd.isna(value)) or not str(value).strip()


def _label_text(value: Any) -> str:
    """The name of a class: 1 and 1.0 (parquet, JSON), "1" and " 1" (CSV) are one class."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _are_fractions(names: Sequence[str]) -> bool:
    """Whether all are numbers, and not all of them whole."""
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return False
    return all(map(math.isfinite, numbers)) and not all(number.is_integer() for number in numbers)


def _number_first(name: str) -> tuple[int, float, str]:
    """Order of classes: numbers by value, then words."""
    return (0, float(name), name) if re.fullmatch(r"-?[0-9]+", name) else (1, 0.0, name)
