"""Where the records of generation come from: E2E, WebNLG, or a user's table of sources and targets."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from autolora.configs.errors import UserError
from autolora.configs.tasks import OFFICIAL
from autolora.configs.tasks import Generation as Settings
from autolora.problems.columns import listed, require_columns
from autolora.problems.scoring import is_of_2017
from autolora.problems.tasks.generation import Generation, TextMetric
from autolora.problems.tasks.readers.hub import load_splits, split_of
from autolora.problems.tasks.readers.numbering import at
from autolora.problems.tasks.readers.objects import filled, lacks_text, no_text, refuse_empty
from autolora.problems.tasks.readers.records import Record, e2e_records, grouped, webnlg_records
from autolora.problems.tasks.readers.splits import evaluation_source, origin, read_or_hold_out
from autolora.problems.tasks.readers.table import read_table
from autolora.problems.tasks.readers.webnlg_files import lora_splits

log = logging.getLogger("autolora.inputs")

_BLEU_ORDER = 4
"""The words of the longest sequences that BLEU counts."""


class _Benchmark(Generation):
    """A data set of the hub, or a folder of its files, with splits."""

    hub: str
    hub_config: str | None = None
    read: Callable[[Iterable[Mapping[str, Any]]], list[Record]]

    def __init__(self, config: Settings) -> None:
        super().__init__(config, config.metrics or OFFICIAL[self.scoring])
        self.name = config.result_name
        self.path = config.path or self.hub
        self.evaluation_split = config.evaluation_split or "test"

    def records(self) -> tuple[list[Record], list[Record]]:
        splits = self._splits()
        if self.config.evaluation_split is None and "test" not in splits:
            self.evaluation_split = "validation"
        return self._split(splits, "train"), self._split(splits, self.evaluation_split)

    def origin(self, split: str | None = None) -> str:
        return f"--task.path: {self.path}"

    def _splits(self) -> Mapping[str, Any]:
        """The rows of every split."""
        config = None if Path(self.path).is_dir() else self.hub_config
        splits: Mapping[str, Any] = load_splits(self.path, config, self.scoring, self.config.revision)
        return splits

    def _split(self, splits: Mapping[str, Any], name: str) -> list[Record]:
        rows = split_of(splits, name, self.path)
        try:
            return type(self).read(rows)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"--task.path: split {name!r} of {self.path} is not {self.scoring} data ({_what(error)}); "
                f"it has: {listed(list(getattr(rows, 'column_names', rows[0] if rows else ())))}"
            ) from error


def _what(error: Exception) -> str:
    """What is wrong with a row, in words, from the error of reading it."""
    if isinstance(error, KeyError):
        return f"no column {error}"
    if isinstance(error, ValueError):
        return str(error)
    return "a column holds a value of the wrong type"  # Python's own message would name Python's types


class E2E(_Benchmark):
    """The E2E NLG Challenge: restaurants."""

    hub = "tuetschek/e2e_nlg"
    read = staticmethod(e2e_records)


class WebNLG(_Benchmark):
    """The WebNLG Challenge: triples of DBpedia. Some test categories of 2017 occur in training, others do not."""

    scoring = "webnlg"
    hub, hub_config = "webnlg-challenge/web_nlg", "webnlg_challenge_2017"
    read = staticmethod(webnlg_records)

    def _splits(self) -> Mapping[str, Any]:
        of_lora = lora_splits(Path(self.path))
        return super()._splits() if of_lora is None else of_lora

    def records(self) -> tuple[list[Record], list[Record]]:
        train, evaluation = super().records()
        trained, evaluated = ({record.category for record in records} for records in (train, evaluation))
        if not is_of_2017(trained, evaluated):
            log.info(
                "%s: its categories are not those of WebNLG 2017, so all texts are scored together, without "
                "the scores of seen and of unseen categories", self.path,
            )  # fmt: skip
            evaluation = [dataclasses.replace(record, category="") for record in evaluation]
        return train, evaluation


def exact_match(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The share of texts, 0 to 1, that equal one of their references; the width of white space does not matter."""
    found = [_words(text) in map(_words, refs) for text, refs in zip(texts, references, strict=True)]
    return sum(found) / len(found)


def _words(text: str) -> list[str]:
    return text.split()


class SourceTarget(Generation):
    """A user's own table: a source and a target (or, in .jsonl and .parquet, a list of targets) a row."""

    own_metrics: ClassVar[Mapping[str, TextMetric]] = {"exact_match": exact_match}

    def __init__(self, config: Settings, seed: int) -> None:
        super().__init__(config, config.metrics or ["BLEU"])
        self.seed = seed
        self.name = config.result_name
        self.source = (config.text_columns or ["source"])[0]
        self.target = config.label_column or "target"
        self.evaluation_split = config.evaluated_split

    def records(self) -> tuple[list[Record], list[Record]]:
        # Whole sources are held out, not rows: another reference of a trained source would give the answer away.
        source = evaluation_source(self.config, self.evaluation_split)
        self.held_out = source.held_out
        train, evaluation = read_or_hold_out(self.config, source, self._read, "source", self.seed)
        if "BLEU" in self._official:
            self._warn_of_short_answers(evaluation)
        return train, evaluation

    def _warn_of_short_answers(self, records: Sequence[Record]) -> None:
        """Warns if most evaluated sources have no reference with a sequence of four words, which BLEU counts."""
        short = sum(all(len(_words(text)) < _BLEU_ORDER for text in record.references) for record in records)
        if 2 * short > len(records):
            log.warning(
                "%s: %d of %d sources have answers of fewer than %d words alone, of which BLEU says little, as it "
                'counts sequences of %d words; set --task.metrics "[exact_match]"',
                self.origin(self.evaluation_split), short, len(records), _BLEU_ORDER, _BLEU_ORDER,
            )  # fmt: skip

    def origin(self, split: str | None = None) -> str:
        return origin(self.config, split)

    def _read(self, option: str, path: Path) -> list[Record]:
        table = read_table(option, path)
        require_columns(option, path, list(table.columns), [self.source, self.target])
        empty = {
            no_text(column): [number for number, cell in table[column].items() if lacks_text(cell)]
            for column in (self.source, self.target)
        }
        refuse_empty(f"{option}: {path}", table.index.name, empty)
        return grouped(self._pairs(option, path, table))

    def _pairs(self, option: str, path: Path, table: pd.DataFrame) -> Iterable[tuple[str, list[str]]]:
        for number, source, target in zip(table.index, table[self.source], table[self.target], strict=True):
            targets = list(target) if isinstance(target, list | np.ndarray) else [target]
            for column, texts in ((self.source, [source]), (self.target, targets)):
                for text in texts or [None]:
                    filled(f"{option}: {path}, {at(table.index.name, number)}", column, text)
            yield source, targets
