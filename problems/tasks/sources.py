"""Rows of a file, a folder or the hub, as `datasets` reads them, for every type of task."""

import csv
import gzip
import hashlib
import logging
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from datasets import Dataset, Features, ReadInstruction, Value, concatenate_datasets, load_dataset_builder
from datasets.exceptions import DatasetsError
from datasets.packaged_modules.csv.csv import CsvConfig

from autolora.configs.files import CONFIGS
from autolora.configs.places import from_home, is_hub_name
from autolora.configs.tasks import SAMPLE, TaskSettings, Tokens
from autolora.problems.machine.hub import explain_missing
from autolora.problems.rows import split_groups

BUILDERS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
CONLL = (".conll", ".iob2", ".txt")
Splits = Mapping[str, Dataset]

_SAMPLE = CONFIGS / "sample"
_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev", "devel"), "test": ("test",)}
_TAG = re.compile(r"O|[BI]-\S+")
logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # it logs the errors that it raises

_BATCH = 10_000  # rows read at a time, so that the memory needed does not grow with the data


@dataclass(frozen=True)
class Raw:
    """Rows before they are encoded: those to train on (D_tr and D_val together), and the splits to evaluate on, by
    name.

    `held_out`: whether the latter were taken out of the training rows. `source`: the number and the digest of all rows
    that were read, before any draw: equal for every seed, and for a file that was moved."""

    train: Dataset
    evaluation: Splits
    held_out: bool
    source: Mapping[str, Any]

    @property
    def known(self) -> list[Dataset]:
        """All rows whose labels a task may know: the training rows, and those that were held out of them."""
        return [self.train, *(self.evaluation.values() if self.held_out else ())]


def read(
    config: TaskSettings, seed: int, prepared: Callable[[Dataset, str | None], Dataset],
    inputs: Callable[[Dataset], Sequence[Hashable] | np.ndarray],
) -> Raw:  # fmt: skip
    """The rows of a task, each split (None: those to train on) as `prepared` makes it. `inputs`: for each of these
    rows something that is equal for rows of one input, which are held out together.

    Raises UserError for what cannot be read and for a split that does not exist."""
    tagged = isinstance(config, Tokens)
    splits = splits_of(config.path, config.configuration, config.data_files, config.revision, tagged=tagged)
    first = next((name for name in sorted(splits, key="train".__ne__) if name.startswith("train")), "train")
    train = prepared(rows_of(splits, config.train_split or first, "--task.path"), None)
    split, given = config.evaluated_split, config.evaluation_split
    wanted = list(given) if isinstance(given, list) else [given] if given else []
    wanted = wanted or sorted({"validation", "test"} & splits.keys(), reverse=not config.tests_first)[:1]
    evaluation = {}
    if file := config.file_of(split):
        of_file = splits_of(file, tagged=tagged, option=f"--task.{split}_path")
        evaluation = {split: next(iter(of_file.values()))}
    elif wanted and (wanted != ["validation"] or "validation" in splits):
        evaluation = {name: rows_of(splits, name) for name in wanted}
    evaluation = {name: prepared(rows, name) for name, rows in evaluation.items()}
    parts = [train, *evaluation.values()]
    found = hashlib.sha256("".join(map(digest, parts)).encode()).hexdigest()
    source = {"rows": sum(map(len, parts)), "sha256": found}
    if evaluation:
        return Raw(train, evaluation, False, source)
    kept, drawn = split_groups(inputs(train), config.holdout_share, seed, "holdout_share")
    return Raw(train.select(kept), {split: train.select(drawn)}, True, source)


def splits_of(
    path: str, config_name: str | None = None, data_files: Mapping[str, Any] | None = None,
    revision: str | None = None, *, tagged: bool = False, option: str = "--task.path",
) -> Splits:  # fmt: skip
    """Every split of a file (its split `train`), of a folder or of a data set of the hub.

    `data_files`: split -> pattern of its files, where the data set does not say it. `tagged`: a row is a sentence of
    tagged words, so that a .tsv file has the columns of CoNLL. `option`: the key that gave the path.
    Raises UserError, one line, for what cannot be read.
    """
    place, columns = _SAMPLE if path == SAMPLE else Path(from_home(path)), (*CONLL, ".tsv") if tagged else CONLL
    with _explained(option, path):
        if place.is_file() and _ending(place) in columns:
            return {"train": _conll(place)}
        if place.is_file() and _ending(place) in BUILDERS:
            return _read(BUILDERS[_ending(place)], None, {"train": str(place)}, cache_dir=_cache([place]))
        if place.is_dir() and (files := _conll_files(place, columns)):
            return {split: _conll(file) for split, file in files.items()}
        if place.is_dir():
            local = (file for file in sorted(place.rglob("*")) if _ending(file) in (*BUILDERS, ".md"))
            return _read(str(place), config_name, data_files, cache_dir=_cache(local))
        if not is_hub_name(path):
            known = ", ".join((*BUILDERS, *CONLL))
            raise FileNotFoundError(
                f"no such file or folder that is read in {Path.cwd()} (a file ends in {known}, or so and .gz)"
            )
        return _read(path, config_name, data_files, revision=revision)


def rows_of(splits: Splits, expression: str, option: str = "--task.evaluation_split") -> Dataset:
    """The rows that an expression of `datasets` names: `test`, `train[:10%]`, `validation+train[4000:6000]`.

    Raises UserError for a split that does not exist, with those that do."""
    with explain_missing(option, expression):
        parts = ReadInstruction.from_spec(expression).to_absolute({name: len(rows) for name, rows in splits.items()})
    found = []
    for part in parts:
        whole = splits[part.splitname]
        numbers = range(part.from_ or 0, len(whole) if part.to is None else part.to)
        found.append(whole if len(numbers) == len(whole) else whole.select(numbers))
    return found[0] if len(found) == 1 else concatenate_datasets(found)


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
    # Of a copy from the hub, README.md counts the rows; a user may have removed some.
    builder.download_and_prepare(verification_mode="no_checks")
    return builder.as_dataset()


def _first_file(files: Any) -> Path | None:
    """The first file of a builder; None for one that is not on this machine."""
    first = Path(next(iter(files.values()))[0])
    return first if first.is_file() else None


def _cache(files: Iterable[Path]) -> str:
    """Where `datasets` keeps the rows of these files as they are now. `datasets` itself looks only at the time of a
    file's change, and of a folder only at its last name: it would return rows from before a change, or another's."""
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            found.update(f"{file.resolve()} {hashlib.file_digest(opened, 'sha256').hexdigest()}".encode())
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "local" / found.hexdigest()[:16])


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
