"""Labels: what no loss counts, how many a loss averages over, and the names of classes."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

log = logging.getLogger("autolora.inputs")

IGNORED = -100
"""The label of a token that no loss and no metric counts: torch's cross entropy leaves it out by default."""
_MOST_TOLD = 8


def count_labels(labels: Any) -> int:
    """How many of these labels a loss averages over: all of them if they are numbers with a point, of which each is to
    be predicted, else those that are not IGNORED."""
    found = np.asarray(labels)
    return found.size if found.dtype.kind == "f" else int((found != IGNORED).sum())


def label_text(value: Any) -> str:
    """The name of a class: 1 and 1.0 (parquet, JSON), "1" and " 1" (CSV) are one class."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def head_of(classes: Sequence[str]) -> dict[str, Any]:
    """The configuration values of a head for these classes."""
    names = dict(enumerate(classes))
    return {"num_labels": len(names), "id2label": names, "label2id": {name: number for number, name in names.items()}}


def tell_classes(what: str, classes: Sequence[str], numbers: Iterable[int], word: str = "classes") -> None:
    """Logs how many of the rows, which `what` names, have each class; of many classes only the largest."""
    counts = sorted(Counter(numbers).most_common(_MOST_TOLD))
    listed = ", ".join(f"{classes[number]} ({count})" for number, count in counts)
    more = f" and {len(classes) - len(counts)} more" if len(classes) > len(counts) else ""
    log.info("data: %s, %d %s: %s%s", what, len(classes), word, listed, more)
