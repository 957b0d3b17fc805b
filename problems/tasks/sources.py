"""Rows of a file, a folder or the hub, as `datasets` reads them, for every type of task."""

import csv
import gzip
import hashlib
import logging
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from datasets import Dataset, Features, ReadInstruction, Value, concatenate_datasets, load_dataset_builder
from datasets.exceptions import DatasetsError
from datasets.packaged_modules.csv.csv import CsvConfig

from autolora.configs.errors import UserError
from autolora.configs.places import from_home, is_hub_name
from autolora.configs.tasks import OwnRows
from autolora.problems.machine.hub import explain_missing
from autolora.problems.rows import split_groups

BUILDERS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
CONLL = (".conll", ".iob2", ".txt")
Splits = Mapping[str, Dataset]

_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev", "devel"), "test": ("test",)}
_TAG = re.compile(r"O|[BI]-\S+")
logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # it logs the errors that it raises

_BATCH = 10_000  # rows read at a time, so that the memory needed does not grow with the data


@dataclass(frozen=True)
class Raw:
    """Raw rows: those to train on (D_tr and D_val together), and the splits to evaluate on, by name.

    `held_out`: whether the latter were taken out of the training rows. `source`: the number and the digest of all rows
    that were read, before any draw: equal for every seed, and for a file that was moved."""

    train: Dataset
    evaluation: Splits
    held_out: bool = False
    source: Mapping[str, Any] | None = None


def read(
    config: OwnRows, seed: int, inputs: Callable[[Dataset], Sequence[Hashable] | np.ndarray], *, tagged: bool = False
) -> Raw:  # fmt: skip
    """The rows of a task. `inputs`: for each row something that is equal for rows of one input, which are held out
    together. Raises UserError for what cannot be read and for a split that does not exist."""
    splits = splits_of(config.path, config.configuration, config.data_files, config.revision, tagged=tagged)
    first = next((name for name in sorted(splits, key="train".__ne__) if name.startswith("train")), "train")
    train = rows_of(splits, config.train_split or first, "--task.path")
    split, given = config.evaluated_split, config.evaluation_split
    wanted = list(given) if isinstance(given, list) else [given] if given else []
    official = tagged or config.from_paper
    wanted = wanted or sorted({"validation", "test"} & splits.keys(), reverse=not official)[:1]
    if file := config.file_of(split):
        of_file = splits_of(file, tagged=tagged, option=f"--task.{split}_path")
        raw = Raw(train, {split: next(iter(of_file.values()))})
    elif wanted and (wanted != ["validation"] or "validation" in splits):
        _refuse_trained(splits, config.train_split or first, wanted)
        raw = Raw(train, {name: rows_of(splits, name) for name in wanted})
    else:
        kept, drawn = split_groups(inputs(train), config.holdout_share, seed, "holdout_share")
        raw = Raw(train.select(kept), {split: train.select(drawn)}, held_out=True)
    parts = [train, *(() if raw.held_out else raw.evaluation.values())]
    found = hashlib.sha256("".join(map(digest, parts)).encode()).hexdigest()
    return replace(raw, source={"rows": sum(map(len, parts)), "sha256": found})


def origin(config: OwnRows, split: str | None) -> str:
    """How a message about the training rows (None), or about those of `split`, begins: the option, then the file."""
    file = None if split is None else config.file_of(split)
    return f"--task.path: {config.path}" if file is None else f"--task.{split}_path: {file}"


def load(
    path: str, config_name: str | None = None, data_files: Mapping[str, Any] | None = None,
    revision: str | None = None, split: str = "train", **how: Any,
) -> Dataset:  # fmt: skip
    """The rows of a split, which may be an expression such as `validation+train[4000:6000]`; see `splits_of`."""
    return rows_of(splits_of(path, config_name, data_files, revision, **how), split)


def splits_of(
    path: str, config_name: str | None = None, data_files: Mapping[str, Any] | None = None,
    revision: str | None = None, *, tagged: bool = False, option: str = "--task.path",
) -> Splits:  # fmt: skip
    """Every split of a file (its split `train`), of a folder or of a data set of the hub.

    `data_files`: split -> pattern of its files, where the data set does not say it. `tagged`: a row is a sentence of
    tagged words, so that a .tsv file has the columns of CoNLL. `option`: the key that gave the path.
    Raises UserError, one line, for what cannot be read.
    """
    place, columns = Path(from_home(path)), (*CONLL, ".tsv") if tagged else CONLL
    with _explained(option, path):
        if place.is_file() and _ending(place) in columns:
            return {"train": _conll(place)}
        if place.is_file() and _ending(place) in BUILDERS:
            return _read(BUILDERS[_ending(place)], None, {"train": str(place)})
        if place.is_dir() and (files := _conll_files(place, columns)):
            return {split: _conll(file) for split, file in files.items()}
        if place.is_dir():
            # Of a copy from the hub, README.md counts the rows; a user may have removed some.
            cache = str(Path(datasets.config.HF_DATASETS_CACHE) / "folders" / _stamp(place))
            return _read(str(place), config_name, data_files, cache_dir=cache)
        if not is_hub_name(path):
            known = ", ".join((*BUILDERS, *CONLL))
            raise FileNotFoundError(
                f"no such file or folder that is read in {Path.cwd()} (a file ends in {known}, or so and .gz)"
            )
        return _read(path, config_name, data_files, revision=revision)


def rows_of(splits: Splits, expression: str, option: str = "--task.evaluation_split") -> Dataset:
    """The rows that an expression of `datasets` names: `test`, `train[:10%]`, `validation+train[4000:6000]`.

    Raises UserError for a split that does not exist, with those that do."""
    parts = [(splits[name], rows) for name, rows in _parts(splits, expression, option)]
    found = [whole if len(rows) == len(whole) else whole.select(rows) for whole, rows in parts]
    return found[0] if len(found) == 1 else concatenate_datasets(found)


def _parts(splits: Splits, expression: str, option: str) -> list[tuple[str, range]]:
    """Name and row numbers of each split that an expression names."""
    with explain_missing(option, expression):
        parts = ReadInstruction.from_spec(expression).to_absolute({name: len(rows) for name, rows in splits.items()})
    ends = ((part.splitname, part.from_ or 0, part.to) for part in parts)
    return [(name, range(start, len(splits[name]) if end is None else end)) for name, start, end in ends]


def _refuse_trained(splits: Splits, trained: str, evaluated: Sequence[str]) -> None:
    """Raises UserError for a split to evaluate with rows that are trained on."""
    of_train = _parts(splits, trained, "--task.train_split")
    for expression in evaluated:
        for name, rows in _parts(splits, expression, "--task.evaluation_split"):
            if any(name == other and max(rows[0], own[0]) <= min(rows[-1], own[-1]) for other, own in of_train):
                raise UserError(f"--task.evaluation_split: {expression} has rows of {name} that are trained on")


def digest(rows: Dataset) -> str:
    """SHA-256 of the columns, sorted by name, and of the rows in their order; where the rows lie does not count.

    The `_fingerprint` of datasets would not do: it tells how rows were made, and differs for equal rows."""
    found, columns = hashlib.sha256(), sorted(rows.column_names)
    found.update(repr(columns).encode())
    for table in rows.with_format("arrow").iter(batch_size=_BATCH):
        # In Arrow's format for streams every buffer begins with the first row and has no unused bytes.
        for batch in table.select(columns).replace_schema_metadata(None).combine_chunks().to_batches():
            found.update(batch.serialize())
    return found.hexdigest()


def _read(path: str, name: str | None, files: Mapping[str, Any] | None, **where: Any) -> Splits:
    """Every split as the builder of `datasets` reads it; of tables on this machine, each cell as a text.

    A table's types would be guessed from its first rows, which makes 7 of 007."""
    builder = load_dataset_builder(path, name, data_files=files, **where)
    if isinstance(builder.config, CsvConfig) and (local := _first_file(builder.config.data_files)):
        tabs: dict[str, Any] = {"sep": "\t", "quoting": csv.QUOTE_NONE} if _ending(local) == ".tsv" else {}
        names = pd.read_csv(local, nrows=0, index_col=False, **tabs).columns
        texts = Features({str(column): Value("string") for column in names})
        builder = load_dataset_builder(
            path, name, data_files=files, features=texts, keep_default_na=False, **tabs, **where
        )
    builder.download_and_prepare(verification_mode="no_checks")
    return builder.as_dataset()


def _first_file(files: Any) -> Path | None:
    """The first file of a builder; None for one that is not on this machine."""
    first = Path(next(iter(files.values()))[0])
    return first if first.is_file() else None


def _stamp(folder: Path) -> str:
    """What names the files of a folder as they are now. `datasets` itself looks only at the folder's last name and
    the configuration: it would return the rows of another folder of that name, or rows from before a change."""
    files = sorted(f"{file} {file.stat().st_mtime_ns}" for file in folder.resolve().rglob("*") if file.is_file())
    return hashlib.sha256("\n".join(files).encode()).hexdigest()[:16]


def _ending(path: Path) -> str:
    """The ending of a file's name in small letters; that of d.csv.gz without .gz."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def _conll_files(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """The files of columns in a folder, by the split that their names tell: train.iob2, dev.conll, test.tsv."""
    files = {file.name.lower().partition(".")[0]: file for file in folder.iterdir() if _ending(file) in endings}
    found = {split: next((files[name] for name in names if name in files), None) for split, names in _SPLITS.items()}
    return {split: file for split, file in found.items() if file}


def _conll(file: Path) -> Dataset:
    """Sentences of a file of columns: the first column is the word, the last one its tag in IOB2.

    Raises ValueError for a file whose first column numbers the words, as CoNLL-U's and GermEval's does."""
    sentences = list(_sentences(file))
    if all([word for word, _ in one] == [str(number + 1) for number in range(len(one))] for one in sentences):
        raise ValueError("the first column numbers the words, or there are none; the word comes first, the tag last")
    return Dataset.from_dict({
        "tokens": [[word for word, _ in sentence] for sentence in sentences],
        "tags": [[tag for _, tag in sentence] for sentence in sentences],
    })  # fmt: skip


def _sentences(file: Path) -> Iterator[list[tuple[str, str]]]:
    """Words and tags of each sentence, which ends at a blank line or at the mark of a document (CoNLL 2003, JNLPBA).

    Raises ValueError, which names the line, for a line without a word and its tag."""
    sentence: list[tuple[str, str]] = []
    opened = gzip.open if file.suffix.lower() == ".gz" else open
    with opened(file, "rt", encoding="utf-8-sig", newline=None) as lines:
        for number, line in enumerate(lines, 1):
            columns = line.rstrip("\n").split("\t") if "\t" in line else line.rstrip("\n").split(" ")
            word, tag = columns[0].strip(), columns[-1].strip()
            if not line.strip() or word == "-DOCSTART-" or word.startswith("###MEDLINE:"):
                if sentence:
                    yield sentence
                sentence = []
            elif _TAG.fullmatch(tag) and word and len(columns) > 1:
                sentence.append((word, tag))
            elif word != "#":  # "# id = 1" is a comment, but "# O" a word
                raise ValueError(f"line {number}: {line.strip()!r:.60} is no word and tag; a tag is O, B-TYPE, I-TYPE")
    if sentence:
        yield sentence


@contextmanager
def _explained(option: str, path: str) -> Iterator[None]:
    """Turns an error of reading into one UserError line, which tells what `datasets` has wrapped into its own."""
    with explain_missing(option, path):
        try:
            yield
        except (DatasetsError, RuntimeError, ValueError, StopIteration) as error:
            said = " ".join(str(error.__cause__ or error).split())[:300]
            raise ValueError(said or "a file is empty") from error
