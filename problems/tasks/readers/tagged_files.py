"""Sentences with a tag on each word, from CoNLL columns or from lists in JSON Lines and parquet."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from autolora.configs.endings import CONLL, TAGGED, ending, refuse_other_ending
from autolora.configs.errors import UserError
from autolora.configs.plain import shortened
from autolora.problems.columns import require_columns
from autolora.problems.scoring.files import read_lines
from autolora.problems.scoring.ner_files import Sentence, marks_document, read_conll
from autolora.problems.tasks.readers.numbering import LINE, ROW, at
from autolora.problems.tasks.readers.objects import looked_in, sound
from autolora.problems.tasks.readers.table import read_table
from autolora.problems.tasks.readers.tag_names import named, names_beside

_OTHER_NAMES = {"validation": ("valid", "dev", "devel")}


def find_split(folder: Path, split: str) -> Path | None:
    """The file of one split in a folder (train.conll, test.jsonl, ...); None if the folder has no such file. The file
    of the validation rows may also be called valid, dev or devel.

    Raises UserError when there are several.
    """
    found = [path for path in _named_as(folder, split) if path.stem.lower() in _names(split) and _is_read(path)]
    if len(found) > 1:
        raise UserError(
            f"--task.path: {folder} has both {found[0].name} and {found[1].name}; name the files one by one"
        )
    return found[0] if found else None


def unread_of_split(folder: Path, split: str) -> list[str]:
    """The names of the files in a folder that are called as a split is, but have an ending that is not read, such as
    test.json or test.conll.gz."""
    return [path.name for path in _named_as(folder, split) if path.is_file() and not _is_read(path)]


def _named_as(folder: Path, split: str) -> list[Path]:
    """What has the split's name before the first dot of its own."""
    return [path for path in sorted(folder.iterdir()) if path.name.lower().partition(".")[0] in _names(split)]


def _names(split: str) -> tuple[str, ...]:
    return (split, *_OTHER_NAMES.get(split, ()))


def _is_read(path: Path) -> bool:
    return ending(path) in TAGGED


def read_sentences(option: str, path: Path, columns: tuple[str, str]) -> list[Sentence]:
    """All sentences of a file; `columns` are those of words and tags in .jsonl and .parquet.

    Raises UserError for another format or a file that cannot be read, and, with the line (parquet: the row),
    for something that is not a word, for lists of different lengths and for tags that are not IOB2.
    """
    if not path.exists():
        raise UserError(f"{option}: no file {str(path)!r}{looked_in(path)}")
    refuse_other_ending(option, path, TAGGED)
    if ending(path) in CONLL:
        try:
            sentences = read_conll(path, read_lines(path))
        except UserError as error:
            raise UserError(f"{option}: {error}") from None
    else:
        sentences = _read_lists(option, path, columns)
    if not sentences:
        raise UserError(f"{option}: {path} has no sentences")
    for sentence in sentences:
        wrong = _wrong(sentence)
        if wrong:
            raise UserError(f"{place(option, path, wrong[0])}: {wrong[1]}")
    return sentences


def place(option: str, path: Path, line: int) -> str:
    """The beginning of a message about one line of a text file or one row of a parquet file."""
    return f"{option}: {path}, {at(ROW if ending(path) == '.parquet' else LINE, line)}"


def _read_lists(option: str, path: Path, columns: tuple[str, str]) -> list[Sentence]:
    """Sentences from the two columns of a table; each word has the number of its row as its line."""
    table = read_table(option, path)
    require_columns(option, path, list(table.columns), columns)
    names = names_beside(option, path, columns[1])
    rows = table[list(columns)].itertuples(name=None)
    return [_sentence(place(option, path, n), n, (words, tags), columns, names) for n, words, tags in rows]


def sentences_of(where: str, rows: Dataset, columns: tuple[str, str], names: Sequence[str] | None) -> list[Sentence]:
    """The sentences of a split of the hub; `names` are the tags by number, for tags that are numbers.

    Raises UserError as `read_sentences` does; the message begins with `where` and names the row.
    """
    found = zip(*(rows[column][:] for column in columns), strict=True)
    sentences = [_sentence(f"{where}, {at(ROW, n)}", n, row, columns, names) for n, row in enumerate(found, 1)]
    for sentence in sentences:
        wrong = _wrong(sentence)
        if wrong:
            raise UserError(f"{where}, {at(ROW, wrong[0])}: {wrong[1]}")
    return sentences


def _sentence(
    where: str, number: int, row: tuple[Any, Any], columns: tuple[str, str], names: Sequence[str] | None
) -> Sentence:
    tokens, given = _words(where, columns[0], row[0]), row[1]
    if _is_list(given):
        given = named(where, columns[1], np.asarray(given, dtype=object).tolist(), names)
    tags = _words(where, columns[1], given)
    if len(tokens) != len(tags):
        raise UserError(f"{where}: {len(tokens)} words in {columns[0]!r}, but {len(tags)} tags in {columns[1]!r}")
    if not tokens:
        raise UserError(f"{where}: column {columns[0]!r} has no words; remove the row")
    return Sentence(tokens, tags, [number] * len(tokens))


def _is_list(cell: Any) -> bool:
    return isinstance(cell, list | np.ndarray)


def _words(where: str, column: str, cell: Any) -> list[str]:
    """The cell as a list of strings."""
    if not _is_list(cell):
        given = "nothing" if pd.isna(cell) else repr(str(cell)[:40])
        raise UserError(f"{where}: column {column!r} holds {given}; allowed: a list of texts")
    strange = [item for item in cell if not isinstance(item, str)]
    if strange:
        raise UserError(f"{where}: column {column!r} holds {shortened(repr(strange[0]))}; allowed: a list of texts")
    return [sound(f"{where}: column {column!r}", item) for item in cell]


def _wrong(sentence: Sentence) -> tuple[int, str] | None:
    """Line and fault of the first word that a CoNLL file could not hold, or of the first tag that is not IOB2."""
    before = "O"
    for token, tag, line in zip(*sentence, strict=True):
        wrong = _wrong_word(token) or _wrong_tag(tag, before)
        if wrong:
            return line, wrong
        before = tag
    return None


def _wrong_word(token: str) -> str | None:
    if not token.strip():
        return "a word is empty; remove it and its tag"
    if token != token.strip() or {"\t", "\n"} & set(token) or marks_document(token):
        told = shortened(token)
        return f"{told!r} is not a word; remove white space around it, tabs, line ends and marks such as -DOCSTART-"
    return None


def _wrong_tag(tag: str, before: str) -> str | None:
    if not tag.strip():
        return "a tag is empty; allowed: O, B-TYPE, I-TYPE (IOB2)"
    if not re.fullmatch(r"O|[BI]-\S+", tag):
        scheme = "; convert BIOES and BILOU to IOB2" if re.fullmatch(r"[ESLU]-\S+", tag) else ""
        return f"tag {shortened(tag)!r} is not allowed; allowed: O, B-TYPE, I-TYPE (IOB2){scheme}"
    if tag.startswith("I-") and before[1:] != tag[1:]:
        return f"tag {tag!r} after {before!r}: in IOB2 an entity begins with B-{tag[2:]} (IO and IOB1 are not allowed)"
    return None
