"""Tags of words: files of columns, and entity precision, recall and F1 by exact match."""

import gzip
from itertools import groupby
from pathlib import Path

_NO_WORD = ("-DOCSTART-", "###MEDLINE:")  # lines that mark a document in CoNLL 2003 and JNLPBA


def read_tags(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Words and tags of the sentences of a CoNLL file, also one that is packed (.gz): first and
    last column, a blank line between sentences. A line with a tab has its columns between tabs, so
    that a word may hold a space.

    Raises ValueError for a line without a word and its tag."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        lines = [
            [] if line.startswith(_NO_WORD) or not line.strip() else _columns(line) for line in file
        ]
    sentences = [list(words) for filled, words in groupby(lines, key=bool) if filled]
    first = [[word[0] for word in sentence] for sentence in sentences]
    last = [[word[-1] for word in sentence] for sentence in sentences]
    return first, last


def _columns(line: str) -> list[str]:
    parts = line.split("\t") if "\t" in line else line.strip().split(" ")
    columns = [column.strip() for column in parts]
    if len(columns) < 2 or not (columns[0] and columns[-1]):
        raise ValueError(f"{line.strip()!r:.60} is no word and tag")
    return columns


def score_ner(gold: list[list[str]], pred: list[list[str]]) -> dict[str, float]:
    """Micro-averaged "precision", "recall", "f1" over all entities, then "protein.precision" etc.
    of each type.

    gold, pred: IOB tags ("O", "B-protein", "I-protein"), one list per sentence. All values from 0
    to 1; 0 where nothing was found or nothing was to be found. An entity counts when type, start
    and end are right. An I- tag that follows no entity of its type opens one, as in conlleval.pl;
    seqeval's strict mode would not count it. Raises ValueError for sentences of different lengths.
    Source: seqeval's default mode; what AutoLoRA's bionlp.py reports.
    """
    from seqeval.metrics import classification_report

    found = classification_report(gold, pred, output_dict=True, zero_division=0)
    total = found.pop("micro avg")
    del found["macro avg"], found["weighted avg"]
    parts = {"": total} | {f"{kind}.": values for kind, values in found.items()}
    return {
        prefix + name.removesuffix("-score"): float(values[name])
        for prefix, values in parts.items()
        for name in ("precision", "recall", "f1-score")
    }
