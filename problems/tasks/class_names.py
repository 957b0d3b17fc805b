"""The classes of a user's data, told in a line before the training."""

import logging
from collections import Counter
from collections.abc import Mapping

from autolora.configs.plain import shortened

log = logging.getLogger("autolora.inputs")

_MOST_TOLD = 8


def tell_classes(what: str, counts: Mapping[str, int], word: str = "classes") -> None:
    """Logs how many rows each class has.

    `what`: the rows, in words; `counts`: the rows of each class, in the order of the classes; `word`: what the line
    calls the classes. Of many classes only the largest are told.
    """
    told = list(counts.items()) if len(counts) <= _MOST_TOLD else Counter(counts).most_common(_MOST_TOLD)
    listed = ", ".join(f"{_one_line(name)} ({count})" for name, count in told)
    more = f" and {len(counts) - _MOST_TOLD} more" if len(counts) > _MOST_TOLD else ""
    log.info("data: %s, %d %s: %s%s", what, len(counts), word, listed, more)


def _one_line(name: str) -> str:
    return shortened(" ".join(name.split()))
