"""Labels: what no loss counts, how many a loss averages over, and the names of classes."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

log = logging.getLogger("autolora.inputs")

IGNORED = -100
"""The label of a token that no loss and no metric counts: torch's cross entropy leaves it out by default."""


def count_labels(labels: Any) -> int:
    """How many of these labels a loss averages over: all of them if they are numbers with a point, of which each is to
    be predicted, else those that are not IGNORED."""
    found = np.asarray(labels)
    return found.size if found.dtype.kind == "f" else int((found != IGNORED).sum())


def head_of(classes: Sequence[str]) -> dict[str, Any]:
    """The configuration values of a head for these classes."""
    names = dict(enumerate(classes))
    return {"num_labels": len(names), "id2label": names, "label2id": {name: number for number, name in names.items()}}


def tell_classes(what: str, names: Iterable[str]) -> None:
    """Logs how many of these labels each class has; of many classes only the largest."""
    counts = Counter(names)
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(counts.most_common(8)))
    log.info("data: %s, %d classes: %s%s", what, len(counts), listed, ", ..." if len(counts) > 8 else "")
