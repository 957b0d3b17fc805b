"""Rows of a file, a folder or the hub, as `datasets` reads them, for every type of task."""

import csv
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    ReadInstruction,
    Value,
    concatenate_datasets,
    load_dataset_builder,
)
from datasets.exceptions import DatasetsError
from datasets.packaged_modules.csv.csv import CsvConfig

from autolora.configs.errors import UserError
from autolora.configs.locations import CONFIGS, from_home, is_hub_name
from autolora.configs.tasks import SAMPLE, Table, TaskSettings, Tokens
from autolora.problems.machine.content import digest_of
from autolora.problems.machine.hub import explain_missing
from autolora.problems.rows import Splits, keys_of, split_groups
from autolora.problems.scoring import read_tags

BUILDERS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
CONLL = (".conll", ".iob2", ".txt", ".tsv")
"""Endings of files of columns, of which tagged words are read."""
Tables = Mapping[str, Dataset]
"""Split -> its rows as they were read."""

_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(
    ("validation", "valid", "dev", "devel"), "validation"
)
"""The name of a file of columns in a folder -> its split."""
# it logs the errors that it raises
logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)


def read(
    config: TaskSettings,
    seed: int,
    prepared: Callable[[Dataset, str | None], Dataset],
    inputs: Callable[[Dataset], Sequence[str]],
) -> Splits[Dataset]:
    """The rows of a task, each split (None: those to train on) as `prepared` makes it. `inputs`:
    the columns of these rows that the model reads; rows in which they are equal are held out
    together.

    Raises UserError for what cannot be read and for a split that does not exist."""
    tagged = isinstance(config, Tokens)
    splits = splits_of(
        config.path, config.configuration, config.data_files, config.revision, tagged=tagged
    )
    first = next(
        (name for name in sorted(splits, key="train".__ne__) if name.startswith("train")), "train"
    )
    train = prepared(rows_of(splits, config.train_split or first, "--task.path"), None)
    split = config.evaluated_split
    given = config.evaluation_split
    if file := config.file_of(split):
        of_file = splits_of(file, tagged=tagged, option=f"--task.{split}_path")
        found = {split: of_file[usual_split(of_file, split, f"--task.{split}_path")]}
    else:
        usual = sorted({"validation", "test"} & splits.keys(), reverse=not config.tests_first)[:1]
        wanted = [given] if isinstance(given, str) else given or usual
        held_out = wanted == ["validation"] and "validation" not in splits
        found = {} if held_out else {name: rows_of(splits, name) for name in wanted}
    evaluation = {name: prepared(rows, name) for name, rows in found.items()}
    if evaluation:
        return Splits(train, evaluation)
    groups = keys_of(train, inputs(train))
    kept, drawn = split_groups(groups, config.holdout_share, seed, "holdout_share")
    return Splits(train.select(kept), {split: train.select(drawn)}, held_out=True)


@dataclass(frozen=True)
class HeldOut:
    """Rows as they were read that a trained model has not seen; `name`: their split and data set,
    which the user gave by `option`."""

    rows: Dataset
    name: str
    option: str


def held_out(
    config: TaskSettings, path: str, split: str | None, option: str, first: str = "validation"
) -> HeldOut:
    """The rows of a file, a folder or a data set of the hub that nothing is learned from.

    `split`: an expression of `datasets`; None: as `usual_split` says, with `first` first. `option`:
    the one that gave the path. Raises UserError for a split that does not exist, and for one
    without labels, which names those with labels."""
    here = (config.configuration, config.data_files, config.revision)
    of_place = here if path == config.path else ()
    splits = splits_of(path, *of_place, tagged=isinstance(config, Tokens), option=option)
    named = split or usual_split(splits, first, option)
    rows = rows_of(splits, named, "--split")
    if isinstance(config, Table):
        labelled = partial(_is_labelled, column=config.label_column or "label")
        if not labelled(rows):
            others = [name for name, table in splits.items() if labelled(table)]
            raise UserError(
                f"{option}: the split {named} of {path} has no labels; with labels: "
                f"{', '.join(others) or 'none'}"
            )
    whole_file = split is None and Path(from_home(path)).is_file()
    return HeldOut(rows, path if whole_file else f"split {named} of {path}", option)


def usual_split(splits: Tables, first: str, option: str) -> str:
    """The split whose rows were most likely held out of a training: `first`, else the other one of
    validation and test, else the only one. Raises UserError for several others."""
    usual = [name for name in (first, "validation", "test") if name in splits]
    if not usual and len(splits) > 1:
        raise UserError(
            f"{option}: has the splits {', '.join(splits)}, none of them validation or test; "
            "measure and cut take --split"
        )
    return next(iter([*usual, *splits]))


def _is_labelled(rows: Dataset, column: str) -> bool:
    """Whether any row has a label; data sets for contests write -1 where there is none."""
    plain = isinstance(rows.features.get(column), Value | ClassLabel)
    return not plain or not {*rows.unique(column)} <= {-1, "-1", "", None}


def splits_of(
    path: str,
    config_name: str | None = None,
    data_files: Mapping[str, Any] | None = None,
    revision: str | None = None,
    *,
    tagged: bool = False,
    option: str = "--task.path",
) -> Tables:
    """Every split of a file (its split `train`), of a folder or of a data set of the hub.

    `data_files`: split -> pattern of its files, where the data set does not say it. `tagged`: a row
    is a sentence of tagged words, which a file of columns (CoNLL) may hold. `option`: the key that
    gave the path.
    Raises UserError, one line, for what cannot be read.
    """
    place = CONFIGS / "sample" if path == SAMPLE else Path(from_home(path))
    with _explained(option, path):
        if not place.exists() and is_hub_name(path):
            return _built(path, config_name, data_files, revision=revision)
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        columns = [file for file in files if tagged and _ending(file) in CONLL]
        names = {
            file.name.lower().partition(".")[0] if place.is_dir() else "train": file
            for file in columns
        }
        if known := names.keys() & _SPLITS:
            return {_SPLITS[name]: _conll(names[name]) for name in sorted(known, reverse=True)}
        # Looked at by `datasets`, a changed folder may be its earlier self, or another one of its
        # name: its cache knows a file by its path, size and time.
        contents = [(file.name, digest_of(file)) for file in files if file.is_file()]
        key = hashlib.sha256(repr(contents).encode()).hexdigest()[:16]
        cache = Path(datasets.config.HF_DATASETS_CACHE) / "local" / key
        if place.is_dir():
            return _built(str(place), config_name, data_files, cache_dir=str(cache))
        if _ending(place) not in BUILDERS:
            raise ValueError(
                f"a file ends in {', '.join(BUILDERS)}, or so and .gz; of tagged words in "
                f"{', '.join(CONLL)}"
            )
        return _built(BUILDERS[_ending(place)], None, {"train": str(place)}, cache_dir=str(cache))


def rows_of(splits: Tables, expression: str, option: str = "--task.evaluation_split") -> Dataset:
    """The rows that an expression of `datasets` names: `test`, `train[:10%]`,
    `validation+train[4000:6000]`.

    Raises UserError for a split that does not exist, with those that do."""
    with explain_missing(option, expression):
        parts = ReadInstruction.from_spec(expression).to_absolute(
            {name: len(rows) for name, rows in splits.items()}
        )
    wanted = [(splits[part.splitname], slice(part.from_, part.to)) for part in parts]
    return concatenate_datasets([rows.select(range(len(rows))[part]) for rows, part in wanted])


def _built(path: str, name: str | None, files: Mapping[str, Any] | None, **where: Any) -> Tables:
    """Every split as the builder of `datasets` reads it; of tables on this machine, each cell as a
    text.

    A table's types would be guessed from its first rows, which makes 7 of 007."""
    builder = load_dataset_builder(path, name, data_files=files, **where)
    config = builder.config
    if (
        isinstance(config, CsvConfig)
        and (first := Path(next(iter(config.data_files.values()))[0])).is_file()
    ):
        tabs: dict[str, Any] = (
            {"sep": "\t", "quoting": csv.QUOTE_NONE} if _ending(first) == ".tsv" else {}
        )
        columns = pd.read_csv(first, nrows=0, index_col=False, **tabs).columns
        texts = Features({str(column): Value("string") for column in columns})
        builder = load_dataset_builder(
            path, name, data_files=files, features=texts, keep_default_na=False, **tabs, **where
        )
    # Of a copy from the hub, README.md counts the rows; a user may have removed some.
    builder.download_and_prepare(verification_mode="no_checks")
    return builder.as_dataset()


def _ending(path: Path) -> str:
    """The ending of a file's name in small letters; that of d.csv.gz without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _conll(file: Path) -> Dataset:
    """Sentences of a file of columns: the first column is the word, the last one its tag in IOB2.

    Raises ValueError for a file whose first column numbers the words, as CoNLL-U's and GermEval's
    does."""
    words, tags = read_tags(file)
    if all(word.isdigit() for sentence in words for word in sentence):
        raise ValueError(
            "the first column numbers the words, or there are none; the word comes first, the "
            "tag last"
        )
    return Dataset.from_dict({"tokens": words, "tags": tags})


@contextmanager
def _explained(option: str, path: str) -> Iterator[None]:
    """Turns an error of reading into one UserError line, which tells what `datasets` has wrapped
    into its own."""
    with explain_missing(option, path):
        try:
            yield
        except (DatasetsError, RuntimeError, ValueError, StopIteration) as error:
            said = " ".join(str(error.__cause__ or error).split())[:300]
            raise ValueError(said or "a file is empty") from error
