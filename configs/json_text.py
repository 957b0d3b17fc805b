"""Refuses a name that a JSON object gives twice: Python would silently keep the last."""

from typing import Any


class GivenTwice(ValueError):
    """A name is given twice in one object of a JSON text; the message says which."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these names and values, for `object_pairs_hook`. Raises GivenTwice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise GivenTwice(f"{twice!r} is given twice in one object")
    return found
