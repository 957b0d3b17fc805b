"""The numbers in a study's tables as text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


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
