"""The values on a study's axes as words, for names, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def word(value: Any) -> str:
    """As YAML writes it: null, true, 0.001, [query, value]."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "null"
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, list | tuple | np.ndarray):
        return f"[{', '.join(map(word, value))}]"
    return str(value)


def all_numbers(values: Sequence[Any]) -> bool:
    """Whether all are numbers, so that a column of them sorts and plots as such."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def means(value: Any, place: Any) -> bool:
    """Whether a key of study.where means this value of an axis; YAML makes of an unquoted one what it looks like."""
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
