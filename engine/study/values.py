"""Values on a study's axes: written as text, and recognised in the text that a user wrote. Needs no pandas."""

from typing import Any

import numpy as np

_EXACT = 1e15
"""Below it every whole number is a float of its own."""


def word(value: Any) -> str:
    """The value as YAML writes it: null, true, 0.001, [query, value], {rate: 0.1}."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "null"
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {word(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple | np.ndarray):
        return f"[{', '.join(map(word, value))}]"
    return str(value)


def label(value: Any) -> str:
    """The value as `word`, but a whole number without decimals: a column of a table holds 1 beside 0.5 as 1.0."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < _EXACT
    return str(int(value)) if whole else word(value)


def means(value: Any, place: Any) -> bool:
    """Whether `place`, as study.exclude names it, means this value of an axis.

    YAML reads an unquoted key that looks like a number, a boolean or null as such, so values are compared, not texts.
    """
    place = word(place)
    if isinstance(value, list):
        parts = [part.strip() for part in place.strip().strip("[]").split(",") if part.strip()]
        return len(parts) == len(value) and all(map(means, value, parts))
    if value is None:
        return place.lower() in ("null", "none")
    if not isinstance(value, bool):
        try:
            return float(value) == float(place)
        except (TypeError, ValueError):
            pass
    return word(value).lower() == place.lower()
