"""A user's own data: texts and labels in a CSV, TSV, JSON Lines or parquet file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.tasks.base import Rows
from problems.tasks.classification import TextClassification
from problems.tasks.splits import evaluation_source, evaluation_split, hold_out

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


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
        source = evaluation_source(self.config, self.evaluation_split)
        if source.held_out:
            kept, held_out = hold_out(len(train), self.config.holdout_share, self.seed, self.train_path)
            train, evaluation = train.iloc[kept], train.iloc[held_out]
        else:
            evaluation = read_table(source.option, source.path)
        if not self.regression:
            self.classes = self._find_classes(train)
        return Rows(
            self._checked("--task.path", self.train_path, train),
            {self.evaluation_split: self._checked(source.option, source.path, evaluation)},
        )

    def _text_columns(self, table: pd.DataFrame) -> list[str]:
        if self.config.text_columns is not None:
            return list(self.config.text_columns)
        return ["text"] if "text" in table.columns or "sentence" not in table.columns else ["sentence"]

    def _find_classes(self, train: pd.DataFrame) -> list[str]:
        if self.label_column not in train.columns:
            return []  # `_checked` says so, with the columns that there are
        labels = [x for x in train[self.label_column] if not _no_label(x)]  # `_checked` names their rows
        found = sorted(set(map(_label_text, labels)), key=_number_first)
        if len(found) < 2:
            raise UserError(f"--task.path: {self.train_path} has the one class {found}; two or more are needed")
        if len(found) > 1000:
            raise UserError(
                f"--task.path: column {self.label_column!r} of {self.train_path} has {len(found)} different "
                f"labels; for numbers set --task.kind regression"
            )
        return found

    def _checked(self, option: str, path: Path, table: pd.DataFrame) -> Dataset:
        """Texts and numeric labels; raises UserError with file and row (counted from 1) for what cannot be learned."""
        label = self.label_column
        missing = [c for c in (*self.columns, label) if c not in table.columns]
        if missing:
            raise UserError(
                f"{option}: {path} has no column {', '.join(missing)}; it has: {', '.join(map(str, table.columns))}"
            )
        rows: dict[str, list[Any]] = {column: [] for column in (*self.columns, "label")}
        for number, values in zip(table.index + 1, table[[*self.columns, label]].itertuples(index=False), strict=True):
            *texts, answer = values
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


def read_table(option: str, path: Path) -> pd.DataFrame:
    """All rows of a file, numbered from 0; cells of CSV and TSV stay text, as "NA" may be one.

    Raises UserError for a missing or empty file, another format, or content that cannot be parsed.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{option}: {str(path)!r} is not allowed; allowed: a file that ends in {', '.join(FORMATS)}")
    if not path.is_file():
        raise UserError(f"{option}: no file {str(path)!r}")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".jsonl":
            table = pd.read_json(path, lines=True, dtype=False, convert_dates=False)
        else:
            table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise UserError(f"{option}: {path} is not UTF-8 (byte {error.start})") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{option}: {path} cannot be read ({str(error).splitlines()[0]})") from error
    if table.empty:
        raise UserError(f"{option}: {path} has no rows")
    return table.reset_index(drop=True)


def _no_label(value: Any) -> bool:
    """An empty cell, null, or NaN, which a null among numbers is read as."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def _label_text(value: Any) -> str:
    """The name of a class: 1 and 1.0 (parquet, JSON) and "1" (CSV) are one class."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _number_first(name: str) -> tuple[int, float, str]:
    """Order of classes: numbers by value, then words."""
    return (0, float(name), name) if re.fullmatch(r"-?[0-9]+", name) else (1, 0.0, name)
