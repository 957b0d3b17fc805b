"""The numbers in a study's tables as text."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

# A number that would need more decimals is written as 3.0e-09.
_MOST_DECIMALS = 6


def number(value: Any) -> str:
    """The value as a table shows it: floats with three decimals, or as many more as two significant digits need; whole
    numbers with commas between the thousands; a missing number as an empty text."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else _decimals(float(value))
    return f"{int(value):,}" if isinstance(value, int | np.integer) else str(value)


def _decimals(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:.3f}".replace("-0.000", "0.000")
    needed = 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(3, needed)}f}" if needed <= _MOST_DECIMALS else f"{value:.1e}"


def spread(values: pd.Series, middle: str = "median", digits: int = 3) -> str:
    """`0.801 (0.800 to 0.802)`: the median or mean of the numbers, and their range if there are several."""
    known = values.dropna()
    text = f"{known.agg(middle):.{digits}f}" if len(known) else ""
    return f"{text} ({span(known, digits)})" if len(known) > 1 else text


def span(values: pd.Series, digits: int = 3) -> str:
    """`0.800 to 0.802`: the least and the greatest number; an empty text if none is known."""
    return f"{values.min():.{digits}f} to {values.max():.{digits}f}" if values.notna().any() else ""


def shortened(name: str, most: int = 40) -> str:
    """A row's name for an axis or a legend: the middle of a long one is left out, as names differ at both ends."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def all_numbers(values: Sequence[Any]) -> bool:
    """Whether all are numbers, so that a column of them sorts and plots as such."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
