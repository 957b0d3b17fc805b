"""Values as text: those on a study's axes, in names and tables, and the numbers in its tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


def word(value: Any) -> str:
    """The value as YAML writes it: null, true, 0.001, [query, value]."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "null"
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, list | tuple | np.ndarray):
        return f"[{', '.join(map(word, value))}]"
    return str(value)


def number(value: Any) -> str:
    """The value as a table shows it: floats with three decimals, whole numbers with commas between the thousands, a
    missing number as an empty text."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.3f}"
    return f"{int(value):,}" if isinstance(value, int | np.integer) else str(value)


def spread(values: pd.Series, middle: str = "median", digits: int = 3) -> str:
    """`0.801 (0.800 to 0.802)`: the median or mean of the numbers, and their range if there are several."""
    known = values.dropna()
    text = f"{known.agg(middle):.{digits}f}" if len(known) else ""
    return f"{text} ({span(known, digits)})" if len(known) > 1 else text


def span(values: pd.Series, digits: int = 3) -> str:
    """`0.800 to 0.802`: the least and the greatest number; an empty text if none is known."""
    return f"{values.min():.{digits}f} to {values.max():.{digits}f}" if values.notna().any() else ""


def all_numbers(values: Sequence[Any]) -> bool:
    """Whether all are numbers, so that a column of them sorts and plots as such."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def means(value: Any, place: Any) -> bool:
    """Whether `place`, as study.where or study.exclude names it, means this value of an axis.

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
