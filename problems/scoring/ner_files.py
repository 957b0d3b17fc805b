"""Read tagged sentences: CoNLL columns or JSON lines."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from autolora.configs.errors import UserError
from autolora.configs.json_text import GivenTwice, once
from autolora.configs.plain import shortened
from autolora.problems.scoring.files import read_lines

_TAG = re.compile(r"O|[BIES]-\S+")


class Sentence(NamedTuple):
    """Tokens with their tags, and the line of the file each stands on."""

    tokens: list[str]
    tags: list[str]
    lines: list[int]


def read_ner(hyp: str | Path, ref: str | Path) -> tuple[list[list[str]], list[list[str]]]:
    """Gold tags (of ref) and predicted tags (of hyp), sentence by sentence.

    Each file is CoNLL (a token a line, first column the token, last column the tag, columns separated by tabs or
    blanks, a blank line between sentences, marks of documents skipped) or JSON lines ({"tokens": [..], "tags": [..]});
    the two may differ in format. Raises UserError, with file and line, when the tokens differ or a line or tag is
    malformed.
    """
    pred, gold = read_tagged(hyp), read_tagged(ref)
    for number, (guess, right) in enumerate(zip(pred, gold, strict=False), 1):
        _check_same_tokens(hyp, guess, ref, right, number)
    if len(pred) != len(gold):
        raise UserError(f"{hyp}: {len(pred)} sentences, but {ref} has {len(gold)}; both need the same ones in order")
    return [sentence.tags for sentence in gold], [sentence.tags for sentence in pred]


def read_tagged(path: str | Path) -> list[Sentence]:
    """Sentences of one file in either format."""
    lines = read_lines(path)
    first = next((line.lstrip() for line in lines if line.strip()), "")
    # The first word of a CoNLL file may be a brace; then no key in quotes follows.
    is_json = re.match(r"\{ *(\"|\}|$)", first) is not None and "\t" not in first
    sentences = _read_json_lines(path, lines) if is_json else read_conll(path, lines)
    if not sentences:
        raise UserError(f"{path}: has no sentences")
    for sentence in sentences:
        for tag, line in zip(sentence.tags, sentence.lines, strict=True):
            if not _TAG.fullmatch(tag):
                raise UserError(
                    f"{path}: line {line}: tag {tag!r} is not allowed; allowed: O, B-TYPE, I-TYPE (or E-, S-)"
                )
    return sentences


def marks_document(token: str) -> bool:
    """Whether the token is not a word but marks where a document begins, as in CoNLL 2003 and JNLPBA."""
    return token == "-DOCSTART-" or token.startswith("###MEDLINE:")


def read_conll(path: str | Path, lines: list[str]) -> list[Sentence]:
    """Sentences from columns, without comments (`# id = 1`); tags are not checked.

    Raises UserError, with its number, for a line of one column or without a tag in the last one, and where the first
    column numbers the words.
    """
    sentences = [Sentence([], [], [])]
    usual = next(filter(_is_usual, lines), "")
    for number, line in enumerate(lines, 1):
        columns = _columns(line)
        if not line.strip() or marks_document(columns[0]):
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
    return bool(line.strip()) and not _may_be_comment(line) and not marks_document(_columns(line)[0])


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


def _read_json_lines(path: str | Path, lines: list[str]) -> list[Sentence]:
    """Sentences from JSON objects, one a line."""
    sentences = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=once)
        except GivenTwice as error:
            raise UserError(f"{path}: line {number}: {error}; allowed: once") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number} is not JSON ({error})") from None
        tokens, tags = _strings(row, "tokens"), _strings(row, "tags")
        if tokens is None or tags is None:
            raise UserError(f'{path}: line {number} needs "tokens" and "tags", both lists of strings')
        if len(tokens) != len(tags):
            raise UserError(f"{path}: line {number} has {len(tokens)} tokens, but {len(tags)} tags")
        sentences.append(Sentence(tokens, tags, [number] * len(tokens)))
    return sentences


def _strings(row: object, key: str) -> list[str] | None:
    """The list of strings under key; None when there is none."""
    value = row.get(key) if isinstance(row, dict) else None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _check_same_tokens(hyp: str | Path, guess: Sentence, ref: str | Path, right: Sentence, number: int) -> None:
    """Raises UserError at the first token in which a sentence of the two files differs."""
    for place, (ours, theirs) in enumerate(zip(guess.tokens, right.tokens, strict=False)):
        if ours != theirs:
            raise UserError(
                f"{hyp}: line {guess.lines[place]} has token {ours!r}, but {ref} line {right.lines[place]} has "
                f"{theirs!r}; both files need the same tokens in the same order"
            )
    if len(guess.tokens) != len(right.tokens):
        line = guess.lines[-1] if guess.lines else 1
        raise UserError(
            f"{hyp}: sentence {number}, which ends in line {line}, has {len(guess.tokens)} tokens, but "
            f"{len(right.tokens)} in {ref}; if the system cut off words, add them with the tag O"
        )
