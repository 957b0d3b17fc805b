"""The classes of a user's data, told in a line before the training, with warnings of doubtful names."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from autolora.configs.keys import shortened

log = logging.getLogger("autolora.inputs")

MOST_OF_ONE = 0.75
_MOST_TOLD = 8
_FOR_NOTHING = frozenset(
    {"nan", "NaN", "NAN", "NA", "N/A", "n/a", "None", "null", "Null", "NULL", "<NA>", "#N/A"}
)  # fmt: skip
"""What programs write in place of an empty cell. The words none and na are left out: they may be names of classes."""


def tell_classes(what: str, counts: Mapping[str, int], word: str = "classes") -> None:
    """Logs how many rows each class has, and warns of doubtful names.

    `what`: the rows, in words; `counts`: the rows of each class, in the order of the classes; `word`: what the line
    calls the classes. Of many classes only the largest are told.
    """
    told = list(counts.items()) if len(counts) <= _MOST_TOLD else Counter(counts).most_common(_MOST_TOLD)
    listed = ", ".join(f"{_one_line(name)} ({count})" for name, count in told)
    more = f" and {len(counts) - _MOST_TOLD} more" if len(counts) > _MOST_TOLD else ""
    log.info("data: %s, %d %s: %s%s", what, len(counts), word, listed, more)
    _warn_of_names_for_nothing(what, counts)
    _warn_of_near_names(what, counts)


def warn_of_majority(what: str, counts: Mapping[str, int]) -> None:
    """Warns if one class has more than MOST_OF_ONE of the rows, so that accuracy is high without any learning."""
    name, count = max(counts.items(), key=lambda item: item[1])
    share = count / sum(counts.values())
    if share > MOST_OF_ONE:
        log.warning(
            "%s: %.1f %% are of the class %s, so that always guessing it has an accuracy of about %.3f; for a metric "
            'that counts all classes alike, set --task.metrics "[f1_macro]"',
            what, 100 * share, _one_line(name), share,
        )  # fmt: skip


def _warn_of_names_for_nothing(what: str, counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        if _without_prefix(name) in _FOR_NOTHING:
            log.warning(
                "%s: %r (%d) is learned as a class of its own; if it stands for an empty label, remove these rows",
                what, name, count,
            )  # fmt: skip


def _warn_of_near_names(what: str, counts: Mapping[str, int]) -> None:
    alike: dict[str, list[str]] = {}
    for name in counts:
        alike.setdefault(_written_alike(name), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            told = " and ".join(f"{shortened(_distinct(name, names))} ({counts[name]})" for name in names)
            log.warning(
                "%s: %s are nearly the same name and are learned as %d classes; if they are one, write them alike",
                what, told, len(names),
            )  # fmt: skip


def _written_alike(name: str) -> str:
    """One text for names that differ in capital letters, blanks, Unicode's forms of one letter, or as 1 and 1.0, or
    as 1 and true, which JSON tells apart."""
    usual = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    usual = {"true": "1", "false": "0"}.get(usual, usual)
    try:
        return repr(float(usual))
    except ValueError:
        return usual


def _distinct(name: str, names: Sequence[str]) -> str:
    """The name in quotes; with escapes for letters beyond ASCII if it looks like another of the names."""
    looks = [unicodedata.normalize("NFC", other) for other in names]
    return ascii(name) if len(set(looks)) < len(looks) else repr(name)


def _without_prefix(name: str) -> str:
    """The type of an entity's tag; the name of another class as it is."""
    return name[2:] if name.startswith(("B-", "I-")) else name


def _one_line(name: str) -> str:
    return shortened(" ".join(name.split()))
