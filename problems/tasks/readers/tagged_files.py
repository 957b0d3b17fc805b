"""Sentences with a tag on each word, from CoNLL columns or from lists in JSON Lines and parquet."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset

from autolora.configs.endings import CONLL, TAGGED, ending, refuse_other_ending
from autolora.configs.errors import UserError
from autolora.configs.plain import shortened
from autolora.problems.columns import require_columns
from autolora.problems.encoding import utf8
from autolora.problems.tasks.readers.numbering import LINE, ROW, at
from autolora.problems.tasks.readers.objects import looked_in, sound
from autolora.problems.tasks.readers.table import read_table
from autolora.problems.tasks.readers.tag_names import named, names_beside

_OTHER_NAMES = {"validation": ("valid", "dev", "devel")}
_TAG = re.compile(r"O|[BIES]-\S+")


class Sentence(NamedTuple):
    """Tokens with their tags, and the line of the file each stands on."""

    tokens: list[str]
    tags: list[str]
    lines: list[int]


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
            sentences = _read_conll(path, _read_lines(path))
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


def _marks_document(token: str) -> bool:
    """Whether the token is not a word but marks where a document begins, as in CoNLL 2003 and JNLPBA."""
    return token == "-DOCSTART-" or token.startswith("###MEDLINE:")


def _read_conll(path: str | Path, lines: list[str]) -> list[Sentence]:
    """Sentences from columns, without comments (`# id = 1`); tags are not checked.

    Raises UserError, with its number, for a line of one column or without a tag in the last one, and where the first
    column numbers the words.
    """
    sentences = [Sentence([], [], [])]
    usual = next(filter(_is_usual, lines), "")
    for number, line in enumerate(lines, 1):
        columns = _columns(line)
        if not line.strip() or _marks_document(columns[0]):
            sentences.append(Sentence([], [], []))
            continue
        if _may_be_comment(line) and _is_comment(line, usual):
            continue
        if len(columns) < 2:
            told = shortened(line.strip())
            raise UserError(f"{path}: line {number} has one column ({told!r}); token and tag are needed")
        if not columns[-1].strip():
            raise UserError(
                f"{path}: line {number}: the last column, which has the tag, is empty; remove the tab at "
                f"the end of the line, or fill the tag in"
            )
        sentences[-1].tokens.append(columns[0].strip())
        sentences[-1].tags.append(columns[-1].strip())
        sentences[-1].lines.append(number)
    found = [sentence for sentence in sentences if sentence.tokens]
    _refuse_numbers(path, found)
    return found


def _columns(line: str) -> list[str]:
    # Split at blanks only: a word may hold a no-break space or another character at which str.split would split.
    return line.split("\t") if "\t" in line else re.findall("[^ ]+", line)


def _is_usual(line: str) -> bool:
    """Whether a line surely has the columns of a word."""
    return bool(line.strip()) and not _may_be_comment(line) and not _marks_document(_columns(line)[0])


def _may_be_comment(line: str) -> bool:
    """Whether a line begins like a comment, as in CoNLL-U and GermEval; "#" may also be a word with its tag."""
    return line.startswith(("# ", "#\t"))


def _is_comment(line: str, usual: str) -> bool:
    """Whether a line that begins like a comment is one, as it lacks the columns of a `usual` line of the file."""
    columns, most = _columns(line), len(_columns(usual))
    tagged = _TAG.fullmatch(columns[-1].strip()) is not None
    if "\t" in usual and "\t" not in line:
        return not (tagged and len(columns) == 2)
    return len(columns) > most > 0 or (len(columns) < most and not tagged)


def _refuse_numbers(path: str | Path, sentences: list[Sentence]) -> None:
    """Raises UserError if the first column counts 1, 2, 3, ... in every sentence of more than one word."""
    longer = [sentence for sentence in sentences if len(sentence.tokens) > 1]
    if longer and all(map(_counts, longer)):
        raise UserError(
            f"{path}: line {longer[0].lines[0]}: the first column numbers the words; allowed: the word first, the tag "
            f"last"
        )


def _counts(sentence: Sentence) -> bool:
    # CoNLL-U also has 1-2 for a word that is written for two, and 2.1 for one that is not written.
    numbers = [token for token in sentence.tokens if not re.fullmatch(r"[0-9]+[-.][0-9]+", token)]
    return numbers == [str(number) for number in range(1, len(numbers) + 1)] != []


def _read_lines(path: str | Path) -> list[str]:
    """Lines without line ends and byte order mark. Raises UserError for a file that is missing, empty or not UTF-8."""
    file = Path(path)
    if file.is_dir():
        raise UserError(f"{path}: is a folder; a text file is needed")
    try:
        text = utf8(str(path), file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not text:
        raise UserError(f"{path}: is empty; one line per item is needed")
    # Only real line ends: str.splitlines would also cut at characters that a sentence may hold, such as U+2028.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


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
    if token != token.strip() or {"\t", "\n"} & set(token) or _marks_document(token):
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
