"""The combinations of a study's axes, without those that study.exclude leaves out."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from autolora.configs.study import StudyConfig
from autolora.engine.study.values import means

VARIANT = "variant"


def combinations(study: StudyConfig) -> Iterator[dict[str, Any]]:
    """The values of each cell of the study: axis -> value."""
    axes = study.values
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        if not _excluded(study, axes, values):
            yield values


def named_values(named: Any, axis: list[Any]) -> list[Any]:
    """The values that an entry of study.exclude names on an axis: one, or a list of them. If the axis itself has lists
    as values, a list is one value, and a list of lists several."""
    lists = any(isinstance(value, list) for value in axis)
    several = isinstance(named, list) and (not lists or any(isinstance(value, list) for value in named))
    return named if several else [named]


def _excluded(study: StudyConfig, axes: Mapping[str, list[Any]], values: Mapping[str, Any]) -> bool:
    """Whether an entry of study.exclude leaves out the cell with these values on the axes."""
    return any(
        all(any(means(values[axis], one) for one in named_values(named, axes[axis])) for axis, named in entry.items())
        for entry in study.exclude
    )
