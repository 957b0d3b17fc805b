"""Types with a range, for the fields of the schema, as in `k: ranges.Rank`; `check_values` in keys.py tests values."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from autolora.configs.hypergradients import BUILT_IN, BuiltIn
from autolora.configs.own_class import is_own


class Range(NamedTuple):
    """The allowed values of a type. `words`: for the user; `holds`: whether a value is allowed."""

    words: str
    holds: Callable[[Any], bool]


# The largest numbers allowed, for values (LARGEST) and for counts (MOST): larger ones would overflow 32-bit numbers,
# or make a run that does not end in a lifetime.
LARGEST = 1_000_000
MOST = 1_000_000_000
_WHOLE = f"{MOST:,}"


def _eta(value: float | str) -> bool:
    return isinstance(value, str) or 0 <= value <= LARGEST


# These comparisons also refuse inf, and nan, with which every comparison is false.
Positive = Annotated[float, Range(f"a number above 0, at most {LARGEST:,}", lambda x: 0 < x <= LARGEST)]
PositiveOrNull = Annotated[
    float | None, Range(f"null, or a number above 0, at most {LARGEST:,}", lambda x: x is None or 0 < x <= LARGEST)
]
NotNegative = Annotated[float, Range(f"0 to {LARGEST:,}", lambda x: 0 <= x <= LARGEST)]
# A text's length is raised to this power; for 1,000 tokens the power of 100 already is near the largest float.
PowerOrNull = Annotated[float | None, Range("null, or a number from -10 to 10", lambda x: x is None or -10 <= x <= 10)]
Share = Annotated[float, Range("a number between 0 and 1", lambda x: 0 < x < 1)]
ShareFromZero = Annotated[float, Range("from 0 to below 1", lambda x: 0 <= x < 1)]
ShareFromZeroOrNull = Annotated[float | None, Range("null, or from 0 to below 1", lambda x: x is None or 0 <= x < 1)]
Rates = Annotated[
    list[float],
    Range(f"numbers above 0, at most {LARGEST:,} each", lambda x: all(0 < rate <= LARGEST for rate in x)),
]
Eta = Annotated[float | Literal["lr", "betty"], Range(f"a number from 0 to {LARGEST:,}, lr or betty", _eta)]
HypergradientType = Annotated[
    BuiltIn | str,
    Range(f"{', '.join(BUILT_IN)}, or FILE.py:CLASS", lambda x: x in BUILT_IN or is_own(x)),
]
Etas = Annotated[
    list[float | Literal["lr", "betty"]],
    Range(
        f"a list of numbers from 0 to {LARGEST:,}, lr or betty, at least one",
        lambda x: len(x) > 0 and all(map(_eta, x)),
    ),
]
# Ray lets several cells share a GPU, but a cell with more than one GPU must have whole GPUs.
Gpus = Annotated[
    float | None,
    Range(
        f"null, 0 to 1, or a whole number up to {LARGEST:,}",
        lambda x: x is None or 0 <= x <= 1 or (1 < x <= LARGEST and float(x).is_integer()),
    ),
]

Budget = Annotated[
    float | Literal["auto"],
    Range(
        f"auto, or a number above 0, at most {LARGEST:,}",
        lambda x: x == "auto" or (not isinstance(x, str) and 0 < x <= LARGEST),
    ),
]
Count = Annotated[int, Range(f"1 to {_WHOLE}", lambda x: 1 <= x <= MOST)]
CountOrNull = Annotated[int | None, Range(f"null, or 1 to {_WHOLE}", lambda x: x is None or 1 <= x <= MOST)]
CountFromZero = Annotated[int, Range(f"0 to {_WHOLE}", lambda x: 0 <= x <= MOST)]
# A number of rows. What is chosen on one half of them is measured on the other; below 8 the halves are too small.
Judges = Annotated[int, Range(f"0, or 8 to {_WHOLE}", lambda x: x == 0 or 8 <= x <= MOST)]
CountFromZeroOrNull = Annotated[int | None, Range(f"null, or 0 to {_WHOLE}", lambda x: x is None or 0 <= x <= MOST)]
# Memory for this many tokens is allocated before the first one is written.
LengthOrNull = Annotated[
    int | None, Range(f"null, or 1 to {LARGEST:,} tokens", lambda x: x is None or 1 <= x <= LARGEST)
]
Tokens = Annotated[int, Range(f"4 to {LARGEST:,} tokens", lambda x: 4 <= x <= LARGEST)]
# The memory that a model needs is proportional to these numbers.
Width = Annotated[int, Range("1 to 16,384", lambda x: 1 <= x <= 16_384)]
WidthOrNull = Annotated[int | None, Range("null, or 1 to 16,384", lambda x: x is None or 1 <= x <= 16_384)]
Seed = Annotated[int, Range("0 to 2147483647", lambda x: 0 <= x < 2**31)]
SeedOrNull = Annotated[int | None, Range("null, or 0 to 2147483647", lambda x: x is None or 0 <= x < 2**31)]
Rank = Annotated[int, Range("1 to 1024", lambda x: 1 <= x <= 1024)]
RankOrNull = Annotated[int | None, Range("null, or 1 to 1024", lambda x: x is None or 1 <= x <= 1024)]
BudgetOrNull = Annotated[
    float | None, Range(f"null, or a number above 0, at most {LARGEST:,}", lambda x: x is None or 0 < x <= LARGEST)
]
# If rho is above 1,000, PEFT silently lowers it (to the largest dimension of the model's weights divided by the rank).
Rho = Annotated[float, Range("1 to 1,000", lambda x: 1 <= x <= 1000)]
Ranks = Annotated[
    list[int],
    Range("two or more ranks, each from 1 to 1024", lambda x: len(x) > 1 and all(1 <= rank <= 1024 for rank in x)),
]
CurveRanks = Annotated[list[int], Range("ranks, each from 1 to 1024", lambda x: all(1 <= rank <= 1024 for rank in x))]
Budgets = Annotated[
    list[float], Range(f"numbers above 0, at most {LARGEST:,}", lambda x: all(0 < budget <= LARGEST for budget in x))
]
Steps = Annotated[
    list[int], Range(f"search steps, 1 to {_WHOLE} each", lambda x: all(1 <= step <= MOST for step in x))
]

DEEPEST = 30


def _flat_enough(value: Any, deepest: int = DEEPEST) -> bool:
    """Whether `value` nests at most `deepest` levels deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return deepest > 0 and all(_flat_enough(one, deepest - 1) for one in inner)


def _keyed(*settings: dict[Any, Any]) -> bool:
    """Whether all keys in these mappings are texts: YAML reads an unquoted 3, yes or null as another type."""
    return all(isinstance(key, str) for one in settings for key in one)


def _is_name(key: Any) -> bool:
    """Whether the key can name a variant: a text that is not empty, or a number. YAML reads an unquoted no, yes or
    null as another type."""
    return key is not None and not isinstance(key, bool) and key != ""


_FLAT = f"keys with values, nested at most {DEEPEST} deep"
_NAMED = f"names that are not empty, each with {_FLAT}"
Axes = Annotated[dict[str, list[Any]], Range(_FLAT, lambda x: _flat_enough(x) and _keyed(x))]
Variants = Annotated[
    dict[str, dict[str, Any]],
    Range(_NAMED, lambda x: _flat_enough(x) and _keyed(*x.values()) and all(map(_is_name, x))),
]
Excluded = Annotated[
    list[dict[str, Any]], Range(f"a list of {_FLAT}", lambda x: _flat_enough(x) and all(map(bool, x)) and _keyed(*x))
]
Where = Annotated[
    dict[str, dict[str, dict[str, Any]]],
    Range(
        _FLAT,
        lambda x: _flat_enough(x) and _keyed(x, *(more for places in x.values() for more in places.values())),
    ),
]


def _is_option(value: Any) -> bool:
    """Whether a class may take the value as an argument: YAML also knows dates, and mappings have no use here."""
    if isinstance(value, list):
        return all(map(_is_option, value))
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


Options = Annotated[
    dict[str, Any],
    Range(
        'arguments by name, such as "{rate: 0.1}": numbers, texts, true, false, null or lists of these',
        lambda x: _flat_enough(x) and all(str(key).isidentifier() and _is_option(x[key]) for key in x),
    ),
]


def _is_path(value: str | None) -> bool:
    """Whether the path is null, or file systems can hold it: names of at most 255 bytes, and few enough in total
    that there is room for the names of the files that a run writes below it."""
    if value is None:
        return True
    path = value.encode("utf-8", "surrogateescape")
    return 0 < len(path) <= 3000 and b"\0" not in path and all(len(name) <= 255 for name in path.split(b"/"))


A_PATH = "a path of at most 3,000 bytes, each name in it at most 255"
FilePath = Annotated[str, Range(A_PATH, _is_path)]
Init = Annotated[str, Range(f"scratch, search, or {A_PATH}", _is_path)]
FilePathOrNull = Annotated[str | None, Range(f"null, or {A_PATH}", _is_path)]

# A run's name becomes one folder inside runs_folder, so it must not contain a path. A null is replaced by the config
# file's name before this test. Of the 255 bytes that a file name may have, a name takes at most 100, which leaves room
# for names made from it, such as .NAME.overwrite and .NAME.lock.
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
# PEFT's word for every linear layer; problems/models/layers.py says which ones they are here.
ALL_LINEAR = "all-linear"
Targets = Annotated[
    list[str] | Literal["all-linear"],
    Range(
        f"at least one module name, or {ALL_LINEAR} alone",
        lambda x: len(x) > 0 and all(x) and (ALL_LINEAR not in x or len(x) == 1),
    ),
]
Modules = Annotated[list[str] | None, Range("null, or names of modules", lambda x: x is None or all(x))]
