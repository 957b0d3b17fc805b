"""What the user may have meant by a key that there is not."""

import difflib
from collections.abc import Iterable

from autolora.configs.keys import MOST_HINTS, allowed, either, shortened
from autolora.configs.synonyms import SETTINGLESS, SYNONYMS


def unknown_key(key: str, known: Iterable[str] | None = None) -> str:
    """The message about an unknown key, with the nearest of the `known` ones (None: of all options)."""
    hints = [repr(name) for name in nearest(key, allowed() if known is None else known)]
    word = _plain(key).rpartition(".")[2]
    hint = SETTINGLESS.get(word) or (f"did you mean {either(hints)}?" if hints else "--help lists the keys")
    return f"unknown key {shortened(key)!r}; {hint}"


def nearest(key: str, known: Iterable[str]) -> list[str]:
    """At most three of the known keys that the user may have meant by an unknown one."""
    names, asked = list(known), _plain(key)
    section, _, word = asked.rpartition(".")
    if found := [name for name in SYNONYMS.get(asked, ()) if name in names]:
        return found
    # Leaving out the section, or giving a wrong one, is as common as misspelling a word.
    if same_word := [name for name in names if name.rpartition(".")[2] == word]:
        best = max(_alike(asked, name) for name in same_word)
        return [name for name in same_word if not section or _alike(asked, name) > best - 0.2][:MOST_HINTS]
    if found := [name for name in SYNONYMS.get(word, ()) if name in names]:
        return [name for name in found if name.startswith(f"{section}.")] or found
    return _misspelt(asked, names)


def _plain(key: str) -> str:
    """The key as keys are written here: learning_rate for Learning-Rate."""
    return key.lower().replace("-", "_")


def _alike(key: str, name: str) -> float:
    return difflib.SequenceMatcher(None, key, name).ratio()


def _misspelt(key: str, names: list[str]) -> list[str]:
    """The names that the key resembles, the most alike first."""
    # With a lower cutoff, unrelated keys come up: task.metrics for dataset at 0.5.
    close = difflib.get_close_matches(key, names, n=MOST_HINTS, cutoff=0.6)
    kept = [name for name in close if _alike(key, name) > _alike(key, close[0]) - 0.05]
    # An abbreviation may resemble a shorter key more than the key that it abbreviates.
    longer = [name for name in names if close and name.startswith(key)]
    return list(dict.fromkeys([*kept[: MOST_HINTS - 1], *longer, *kept[MOST_HINTS - 1 :]]))[:MOST_HINTS]
