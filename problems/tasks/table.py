"""A user's own data: texts and labels in a CSV, TSV, JSON Lines or parquet file."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset

from autolora.configs.errors import UserError
from autolora.configs.tasks import Table
from autolora.problems.columns import label_column, require_text_and_label, text_columns
from autolora.problems.tasks.base import Rows
from autolora.problems.tasks.class_names import tell_classes
from autolora.problems.tasks.classification import TextClassification
from autolora.problems.tasks.label_scale import LabelScale
from autolora.problems.tasks.labels import (
    NO_LABEL,
    find_classes,
    label_text,
    no_label,
    number_of,
    refuse_one_number,
    value_of,
)
from autolora.problems.tasks.readers.numbering import at
from autolora.problems.tasks.readers.objects import filled, lacks_text, no_text, refuse_empty, sound
from autolora.problems.tasks.readers.splits import evaluation_source, hold_out, origin
from autolora.problems.tasks.readers.table import read_table
from autolora.problems.tasks.readers.tag_names import named_class, names_in_parquet


class TextTable(TextClassification):
    """Classification or regression on a table. Every row is checked when it is read; a refusal names the row."""

    def __init__(self, config: Table, seed: int) -> None:
        regression = config.kind == "regression"
        metrics = config.metrics or (["spearman", "pearson"] if regression else ["accuracy"])
        super().__init__([], config.max_length, metrics, regression=regression)
        self.config = config
        self.seed = seed
        self.train_path = Path(str(config.path))
        self.name = config.result_name
        self.label_column = label_column(config)
        self.evaluation_split = config.evaluated_split

    def rows(self) -> Rows:
        train = read_table("--task.path", self.train_path)
        self.columns = text_columns(self.config, list(train.columns))
        train = self._named("--task.path", self.train_path, train)
        where = f"--task.path: column {self.label_column!r} of {self.train_path}"
        if self.regression:
            refuse_one_number(where, train[self.label_column])
        else:
            found = find_classes(where, list(train[self.label_column]), "set --task.kind regression")
            # The classes that a file of datasets numbers keep its order.
            order = names_in_parquet(self.train_path, self.label_column) or []
            self.classes = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
        source = evaluation_source(self.config, self.evaluation_split)
        self.held_out = source.held_out
        if source.held_out:
            classes = None if self.regression else [label_text(x) for x in train[self.label_column]]
            # Python's own texts: a column of pandas refuses a broken character, which `_checked` reports with its row.
            texts = [tuple(map(str, row)) for row in train[self.columns].itertuples(index=False, name=None)]
            share = self.config.holdout_share
            kept, held_out = hold_out(len(train), share, self.seed, self.train_path, classes, texts=texts)
            train, evaluation = train.iloc[kept], train.iloc[held_out]
            if self.regression:
                left = f"the {len(kept)} of {len(kept) + len(held_out)} rows that are not held out"
                refuse_one_number(
                    where, train[self.label_column], f" in {left} (another --task.seed holds out others)"
                )
        else:
            evaluation = self._named(source.option, source.path, read_table(source.option, source.path))
        rows = Rows(
            self._checked("--task.path", self.train_path, train),
            {self.evaluation_split: self._checked(source.option, source.path, evaluation)},
        )
        if self.regression:
            what = f"{len(rows.train)} training rows of {self.train_path.name}"
            self.label_scale = LabelScale.told(rows.train["label"][:], what)
        else:
            self._tell_classes(rows)
        return rows

    def origin(self, split: str | None = None) -> str:
        return origin(self.config, split)

    def _tell_classes(self, rows: Rows) -> None:
        """Tells the classes of all rows of the training file, also of those that were held out of it."""
        parts = [rows.train, *(rows.evaluation.values() if self.held_out else ())]
        found = Counter(label for part in parts for label in part["label"][:])
        counts = {name: found[number] for number, name in enumerate(self.classes)}
        tell_classes(f"{found.total()} rows of {self.train_path.name}", counts)

    def _named(self, option: str, path: Path, table: pd.DataFrame) -> pd.DataFrame:
        """The table, checked, with the names of classes in place of the numbers that the type of its column names."""
        self._check_columns(option, path, table)
        self._refuse_empty(option, path, table)
        names = None if self.regression else names_in_parquet(path, self.label_column)
        if names is None:
            return table
        unit = table.index.name
        labels = [
            named_class(f"{option}: {path}, {at(unit, number)}", self.label_column, label, names)
            for number, label in table[self.label_column].items()
        ]
        return table.assign(**{self.label_column: labels})

    def _check_columns(self, option: str, path: Path, table: pd.DataFrame) -> None:
        """Raises UserError for a missing column, and for a label that is a list, an object or broken text."""
        require_text_and_label(option, path, list(table.columns), self.columns, self.label_column)
        for number, value in table[self.label_column].items():
            where = f"{option}: {path}, {at(table.index.name, number)}: column {self.label_column!r}"
            if isinstance(value, str):
                sound(where, value)
            if isinstance(value, bytes) or not pd.api.types.is_scalar(value):
                held = "bytes" if isinstance(value, bytes) else "an object" if isinstance(value, dict) else "a list"
                raise UserError(f"{where} holds {held}; allowed: one text or number a row")

    def _refuse_empty(self, option: str, path: Path, table: pd.DataFrame) -> None:
        """Raises UserError that counts the rows of the file without a text or without a label."""
        empty = {
            no_text(column): [number for number, text in table[column].items() if lacks_text(text)]
            for column in self.columns
        }
        empty[NO_LABEL] = [number for number, label in table[self.label_column].items() if no_label(label)]
        refuse_empty(f"{option}: {path}", table.index.name, empty)

    def _checked(self, option: str, path: Path, table: pd.DataFrame) -> Dataset:
        """Texts and numeric labels; raises UserError with file and line (or row) for what cannot be learned."""
        rows: dict[str, list[Any]] = {column: [] for column in (*self.columns, "label")}
        values = table[[*self.columns, self.label_column]].itertuples(index=False)
        for number, (*texts, answer) in zip(table.index, values, strict=True):
            where = f"{option}: {path}, {at(table.index.name, number)}"
            for column, text in zip(self.columns, texts, strict=True):
                rows[column].append(filled(where, column, text))
            rows["label"].append(self._label(where, answer))
        return Dataset.from_dict(rows)

    def _label(self, where: str, answer: Any) -> float | int:
        return value_of(where, answer) if self.regression else number_of(where, answer, self.classes)
