"""Data records to texts: E2E's meaning representations and WebNLG's triples, linearised as in LoRA's recipe.

    E2E     name[Blue Spice], eatType[pub]        -> name : Blue Spice | Type : pub
    WebNLG  (Aarhus, leaderName, Jacob Bundsgaard) -> Aarhus : leaderName : Jacob Bundsgaard | ...

Source: microsoft/LoRA, examples/NLG (its E2E files, format_converting_webnlg.py). The recipe's E2E texts are
tokenised; ours are those of the official release.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

# The hub puts several test files of the challenges into one split (column test_category). Systems are scored on the
# files below. The others hold the same records without texts, some of the records, or data of the parsing task.
_SCORED = ("testdata_with_lex", "rdf-to-text-generation-test-data-with-refs")

_ATTRIBUTE = re.compile(r"\s*([^\[\],]+)\[([^\]]*)\]\s*,?")
_E2E_NAMES = {"eatType": "Type", "priceRange": "price", "familyFriendly": "family friendly"}


@dataclass(frozen=True)
class Record:
    """A data record in one line, and the texts that people wrote for it. `category`: WebNLG's, else empty."""

    source: str
    references: tuple[str, ...]
    category: str = ""


def e2e_source(meaning: Any) -> str:
    """A meaning representation in one line. Raises ValueError for text of another form."""
    found = _ATTRIBUTE.findall(meaning) if isinstance(meaning, str) else []
    if not found or _ATTRIBUTE.sub("", meaning).strip():
        raise ValueError("no attributes such as name[Blue Spice], area[riverside]")
    return " | ".join(f"{_E2E_NAMES.get(name.strip(), name.strip())} : {value}" for name, value in found)


def triples_source(triples: Sequence[str]) -> str:
    """Triples "subject | property | object" in one line. Raises ValueError for text of another form."""
    parts = [[part.strip() for part in triple.split(" | ")] for triple in triples]
    if not parts or any(len(part) != 3 for part in parts):
        raise ValueError("no triples such as Aarhus | leaderName | Jacob_Bundsgaard")
    return " | ".join(" : ".join(part) for part in parts)


def e2e_records(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The records of a split with the columns meaning_representation and human_reference."""
    return grouped((e2e_source(row["meaning_representation"]), [_text(row["human_reference"])]) for row in rows)


def webnlg_records(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The records of a split in the challenge's columns or the hub's, with the texts marked good (if none is: all)."""
    records = []
    for row in _scored(list(rows)):
        texts = _lexicalisations(row)
        if not texts:
            raise ValueError("no text (lexs is empty); records without one cannot be learned from or scored")
        good = [text for text, comment in texts if comment == "good"]
        references = tuple(good or [text for text, _ in texts])
        records.append(Record(triples_source(_triples(row)), references, row.get("category") or ""))
    return records


def _scored(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of the test file on which systems are scored; all rows if none is from such a file."""
    return [row for row in rows if str(row.get("test_category")).startswith(_SCORED)] or rows


def _text(reference: Any) -> str:
    if not isinstance(reference, str) or not reference.strip():
        raise ValueError("the reference is empty")
    return reference


def _lexicalisations(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(text, comment) of each text of a row: a list of objects or, on the hub, lists of texts and of comments."""
    if "lexs" in row:
        return [(_text(lex["lex"]), lex["comment"]) for lex in row["lexs"] or ()]
    return [(_text(text), comment) for text, comment in zip(row["lex"]["text"], row["lex"]["comment"], strict=True)]


def _triples(row: Mapping[str, Any]) -> Sequence[str]:
    if "modifiedtripleset" in row:
        found: Sequence[str] = row["modifiedtripleset"]
        return found
    (found,) = row["modified_triple_sets"]["mtriple_set"]
    return found


def grouped(pairs: Iterable[tuple[str, Sequence[str]]]) -> list[Record]:
    """One record for each source, with all its references, in the order in which the sources first occur."""
    references: dict[str, list[str]] = {}
    for source, found in pairs:
        references.setdefault(source, []).extend(found)
    return [Record(source, tuple(found)) for source, found in references.items()]


def training_rows(records: Sequence[Record]) -> Dataset:
    """One row for each reference: source, target."""
    return Dataset.from_list([{"source": x.source, "target": target} for x in records for target in x.references])


def as_training_rows(rows: Dataset) -> Dataset:
    """The rows of `evaluation_rows` as `training_rows` makes them of the same records."""
    pairs = zip(rows["source"][:], rows["references"][:], strict=True)
    return Dataset.from_list([{"source": source, "target": target} for source, found in pairs for target in found])


def evaluation_rows(records: Sequence[Record]) -> Dataset:
    """One row for each record: source, target (its first reference, for the loss), references, category."""
    return Dataset.from_list(
        [
            {"source": x.source, "target": x.references[0], "references": list(x.references), "category": x.category}
            for x in records
        ]
    )
