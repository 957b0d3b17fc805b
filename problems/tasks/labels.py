"""The labels of texts: the names of classes, and numbers that a loss in fp32 can hold."""

import logging
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from autolora.configs.errors import UserError
from autolora.configs.plain import shortened

log = logging.getLogger("autolora.inputs")

IGNORED = -100
"""The label of a token that no loss and no metric counts: torch's cross entropy leaves it out by default."""
OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""
NO_LABEL = "the label is empty"
MOST_CLASSES = 1000
LARGEST = 1e19
"""The largest number that can be learned: the loss squares it, and fp32 ends at 3.4e38."""

# Up to this many different labels are taken for classes, even if each row has its own (a toy example); fractional
# numbers only up to two.
_FEW = 10
_MANY_NUMBERS = 20  # more different numbers than this are probably numbers to learn, not names of classes


def find_classes(where: str, labels: Sequence[Any], for_numbers: str) -> list[str]:
    """The names of the classes that `labels` have; empty labels are ignored here, as each row is checked later.

    `where` begins every message; `for_numbers` tells a user what to set so that labels are learned as numbers. Raises
    UserError for fewer than two classes, for more than MOST_CLASSES, and where (nearly) every row has its own label.
    """
    names = [label_text(label) for label in labels if not no_label(label)]
    found = sorted(set(names), key=_number_first)
    if len(found) < 2:
        has = f"the one class {found[0]!r}" if found else "no label"
        raise UserError(f"{where} has {has}; two or more classes are needed")
    numbers, fractions = _are_numbers(found)
    instead = f"to learn numbers, {for_numbers}" if numbers else "are these the labels (--task.label_column)?"
    if (len(found) > _FEW or (fractions and len(found) > 2)) and len(found) >= 0.9 * len(names):
        raise UserError(f"{where} has {len(found)} different labels in {len(names)} rows, nearly one a row; {instead}")
    if len(found) > MOST_CLASSES:
        raise UserError(
            f"{where} has {len(found)} different labels; allowed: at most {MOST_CLASSES} classes; {instead}"
        )
    if fractions or (numbers and len(found) > _MANY_NUMBERS):
        log.warning(
            "%s holds %s, taken for %d classes (%s, ...); to learn numbers, %s",
            where, "fractional numbers" if fractions else "many different numbers", len(found), found[0], for_numbers,
        )  # fmt: skip
    return found


def number_of(where: str, label: Any, classes: Sequence[str]) -> int:
    """The number of the label's class. Raises UserError for an empty label and for an unknown class."""
    refuse_none(where, label)
    name = label_text(label)
    if name not in classes:
        known = ", ".join(map(shortened, classes[:10]))
        told = shortened(repr(label))
        raise UserError(f"{where}: label {told} does not occur in the training rows; known: {known}")
    return classes.index(name)


def value_of(where: str, label: Any) -> float:
    """The number to learn. Raises UserError for a label that is no number, or whose square exceeds fp32."""
    refuse_none(where, label)
    value = _as_number(label)
    if not math.isfinite(value):
        point = "; write a decimal point, not a comma" if math.isfinite(_number(str(label))) else ""
        raise UserError(f"{where}: label {shortened(repr(label))} is not a number{point}")
    if abs(value) > LARGEST:
        raise UserError(
            f"{where}: label {label!r} is too large, fp32 cannot hold its square; allowed: -{LARGEST:g} to "
            f"{LARGEST:g}; scale the labels"
        )
    return value


def refuse_one_number(where: str, labels: Iterable[Any], rows: str = "") -> None:
    """Raises UserError, beginning with `where`, for labels that are all the same number, as 0.1 and 0.10 are.

    A label that is no number is left to `value_of`. `rows`: which rows these are, in words; empty: all of the file."""
    values = {_as_number(label) for label in labels}
    if len(values) == 1 and math.isfinite(value := values.pop()):
        raise UserError(f"{where} has the one number {label_text(value)}{rows}; two or more are needed")


def refuse_none(where: str, label: Any) -> None:
    """Raises UserError, beginning with `where`, for an empty label."""
    if no_label(label):
        raise UserError(f"{where}: {NO_LABEL}; fill it in or remove the row")


def count_labels(labels: Any) -> int:
    """How many of these labels a loss averages over: all of them if they are numbers with a point, of which each is to
    be predicted, else those that are not IGNORED."""
    found = np.asarray(labels)
    return found.size if found.dtype.kind == "f" else int((found != IGNORED).sum())


def no_label(value: Any) -> bool:
    """Whether a cell is empty, null or NaN; pandas reads a null among numbers as NaN."""
    return bool(pd.isna(value)) or not str(value).strip()


def label_text(value: Any) -> str:
    """The name of a class: 1 and 1.0 (parquet, JSON), "1" and " 1" (CSV) are one class."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _as_number(label: Any) -> float:
    """The number that a label is or spells; nan if it is none."""
    try:
        return float(label)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _are_numbers(names: Sequence[str]) -> tuple[bool, bool]:
    """Whether nearly all are numbers (3.5, or 3,5 as some write it), and whether some of those are not whole."""
    numbers = [number for number in map(_number, names) if math.isfinite(number)]
    if len(numbers) < 0.9 * len(names):
        return False, False
    return True, not all(number.is_integer() for number in numbers)


def _number(name: str) -> float:
    try:
        return float(name.replace(",", ".", 1))
    except ValueError:
        return math.nan


def _number_first(name: str) -> tuple[int, float, str]:
    """A sort key for class names: numbers first, by value, then words."""
    return (0, float(name), name) if re.fullmatch(r"-?[0-9]+", name) else (1, 0.0, name)
