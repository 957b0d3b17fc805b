"""Values as words on axes and in tables, and those that study.exclude names."""

from typing import Any

import numpy as np
import pytest

from autolora.engine.study.values import label, means, word


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (float("nan"), "null"),
        (True, "true"),
        (np.bool_(False), "false"),
        (1e-3, "0.001"),
        (np.float64(1e-5), "1e-05"),
        (np.int64(1000), "1000"),
        ("lr", "lr"),
        ([1e-3, None], "[0.001, null]"),
        (np.array(["query"]), "[query]"),
        ([], "[]"),
        ({"rate": 0.1, "path": [1, None]}, "{rate: 0.1, path: [1, null]}"),
    ],
)
def test_a_value_is_said_as_yaml_writes_it(value: Any, text: str) -> None:
    assert word(value) == text


@pytest.mark.parametrize(
    ("value", "places"),
    [
        (1e-3, ["0.001", "1e-3", "1.0e-3", 1e-3]),
        ("1e-3", ["0.001", "1e-3"]),
        (2, ["2", "2.0", 2]),
        (True, ["true", "True", True]),
        (None, ["null", "None", None]),
        ("None", ["none"]),
        ([1e-3, 2], ["[0.001, 2]", "[1e-3,2]"]),
        (["query"], ["[query]"]),
        ([], ["[]"]),
    ],
)
def test_a_place_is_meant_by_value(value: Any, places: list[Any]) -> None:
    assert all(means(value, place) for place in places)
    assert not any(means(value, place) for place in ("5", "other", "[5]", "false"))


def test_the_label_of_a_whole_number_has_no_decimals() -> None:
    """A column of a table holds 1 beside 0.5 as 1.0, and a row had another name than in the study's axes."""
    given = (1.0, np.float64(3), 1, 0.5, 1e-5, 1e300, True, None, "1.0", float("nan"))
    assert [label(value) for value in given] == [
        "1", "3", "1", "0.5", "1e-05", "1e+300", "true", "null", "1.0", "null"
    ]  # fmt: skip
