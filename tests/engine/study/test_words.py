"""Values as words on axes and in tables, and places of study.where as values."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from engine.study.words import all_numbers, means, number, span, spread, word


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
    ],
)
def test_a_value_is_said_as_yaml_writes_it(value: Any, text: str) -> None:
    assert word(value) == text


def test_a_column_of_numbers_stays_one_and_truth_is_none() -> None:
    assert all_numbers([1, 2.5])
    assert not any(map(all_numbers, ([1, None], [True, False], [0.1, "lr"], [[1], [2]])))


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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (np.float32(2), "2.000"),
        (1234567, "1,234,567"),
        (np.int64(1000), "1,000"),
        (float("nan"), ""),
        ("0.600 to 0.800", "0.600 to 0.800"),
    ],
)
def test_a_number_of_a_table_is_short(value: Any, text: str) -> None:
    assert number(value) == text


def test_a_spread_is_the_middle_and_the_range_of_what_is_known() -> None:
    values = pd.Series([0.1, 0.2, np.nan, 0.9])
    assert spread(values) == "0.200 (0.100 to 0.900)"
    assert spread(values, "mean", 2) == "0.40 (0.10 to 0.90)"
    assert spread(values[:1]) == "0.100"
    assert spread(values[2:3]) == span(values[2:3]) == spread(values[:0]) == ""
    assert span(values[:1], 1) == "0.1 to 0.1"
