"""Types with a range, for the fields of the schema, as in `k: ranges.Rank`; `check_values` of keys.py tests them."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple


class Range(NamedTuple):
    """Which values of a type are allowed: in words for the user, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _eta(value: float | str) -> bool:
    return isinstance(value, str) or 0 <= value < math.inf


# Comparing with infinity refuses inf and, as every comparison with it is false, nan.
Positive = Annotated[float, Range("a number above 0", lambda x: 0 < x < math.inf)]
NotNegative = Annotated[float, Range("0 or more", lambda x: 0 <= x < math.inf)]
Finite = Annotated[float, Range("a number", math.isfinite)]
Share = Annotated[float, Range("a number between 0 and 1", lambda x: 0 < x < 1)]
ShareFromZero = Annotated[float, Range("from 0 to below 1", lambda x: 0 <= x < 1)]
Rates = Annotated[list[float], Range("numbers above 0", lambda x: all(0 < rate < math.inf for rate in x))]
Eta = Annotated[float | Literal["lr", "betty"], Range("0 or more, lr, betty", _eta)]
Etas = Annotated[
    list[float | Literal["lr", "betty"]],
    Range("at least one of: 0 or more, lr, betty", lambda x: len(x) > 0 and all(map(_eta, x))),
]
# Ray lets cells share one GPU, but gives a cell several GPUs only whole.
Gpus = Annotated[
    float | None,
    Range("null, 0 to 1, or a whole number", lambda x: x is None or 0 <= x <= 1 or (x > 1 and float(x).is_integer())),
]

Count = Annotated[int, Range("1 or more", lambda x: x >= 1)]
CountOrNull = Annotated[int | None, Range("null, or 1 or more", lambda x: x is None or x >= 1)]
CountFromZero = Annotated[int, Range("0 or more", lambda x: x >= 0)]
Tokens = Annotated[int, Range("4 tokens or more", lambda x: x >= 4)]
Seed = Annotated[int, Range("0 to 2147483647", lambda x: 0 <= x < 2**31)]
Rank = Annotated[int, Range("1 to 1024", lambda x: 1 <= x <= 1024)]
Ranks = Annotated[
    list[int],
    Range("two or more ranks, each from 1 to 1024", lambda x: len(x) > 1 and all(1 <= rank <= 1024 for rank in x)),
]
Steps = Annotated[list[int], Range("search steps, 1 or more each", lambda x: all(step >= 1 for step in x))]

# A run's name becomes one folder inside runs_folder and nothing else. A null becomes the file's name before the test.
Name = Annotated[
    str | None,
    Range(
        "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 100",
        lambda x: isinstance(x, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", x) is not None,
    ),
]
Columns = Annotated[
    list[str] | None,
    Range("null, or one or two column names", lambda x: x is None or (len(x) in (1, 2) and all(x))),
]
Metrics = Annotated[list[str] | None, Range("null, or at least one metric", lambda x: x is None or len(x) > 0)]
Targets = Annotated[list[str], Range("at least one module name", lambda x: len(x) > 0 and all(x))]
Modules = Annotated[list[str] | None, Range("null, or names of modules", lambda x: x is None or all(x))]
