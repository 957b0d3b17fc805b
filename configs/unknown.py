"""What the user may have meant by a key that there is not."""

import difflib
from collections.abc import Iterable

from configs.keys import MOST_HINTS, allowed, either, shortened


def unknown_key(key: str, known: Iterable[str] | None = None) -> str:
    """The message about an unknown key, with the nearest of the `known` ones (None: of all options)."""
    hints = [repr(name) for name in nearest(key, allowed() if known is None else known)]
    hint = f"did you mean {either(hints)}?" if hints else "--help lists the keys"
    return f"unknown key {shortened(key)!r}; {hint}"


def nearest(key: str, known: Iterable[str]) -> list[str]:
    """At most three of the known keys that the user may have meant by an unknown one."""

    def alike(name: str) -> float:
        return difflib.SequenceMatcher(None, key, name).ratio()

    names = list(known)
    section, _, word = key.rpartition(".")
    # Leaving out the section, or giving a wrong one, is as common as misspelling a word.
    if same_word := [name for name in names if name.rpartition(".")[2] == word]:
        best = max(map(alike, same_word))
        return [name for name in same_word if not section or alike(name) > best - 0.2][:MOST_HINTS]
    close = difflib.get_close_matches(key, names, n=MOST_HINTS, cutoff=0.5)
    kept = [name for name in close if alike(name) > alike(close[0]) - 0.05]
    # An abbreviation may resemble a shorter key more than the key that it abbreviates.
    longer = [name for name in names if close and name.startswith(key)]
    return list(dict.fromkeys([*kept[: MOST_HINTS - 1], *longer, *kept[MOST_HINTS - 1 :]]))[:MOST_HINTS]
