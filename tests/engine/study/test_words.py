"""The numbers in the tables of a study as text."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from autolora.engine.study.words import all_numbers, number, shortened, span, spread


def test_a_column_of_numbers_stays_one_and_truth_is_none() -> None:
    assert all_numbers([1, 2.5])
    assert not any(map(all_numbers, ([1, None], [True, False], [0.1, "lr"], [[1], [2]])))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (0.0061, "0.0061"),
        (-0.000488, "-0.00049"),
        (3e-9, "3.0e-09"),
        (-0.0, "0.000"),
        (np.float32(2), "2.000"),
        (1234567, "1,234,567"),
        (np.int64(1000), "1,000"),
        (float("nan"), ""),
        ("0.600 to 0.800", "0.600 to 0.800"),
    ],
)
def test_a_number_of_a_table_is_short(value: Any, text: str) -> None:
    assert number(value) == text


def test_a_long_name_keeps_both_ends() -> None:
    assert shortened("x" * 40) == "x" * 40
    assert (
        shortened("query, key, value, output.dense, intermediate.dense, betty")
        == "query, key, value, …ediate.dense, betty"
    )


def test_a_spread_is_the_middle_and_the_range_of_what_is_known() -> None:
    values = pd.Series([0.1, 0.2, np.nan, 0.9])
    assert spread(values) == "0.200 (0.100 to 0.900)"
    assert spread(values, "mean", 2) == "0.40 (0.10 to 0.90)"
    assert spread(values[:1]) == "0.100"
    assert spread(values[2:3]) == span(values[2:3]) == spread(values[:0]) == ""
    assert span(values[:1], 1) == "0.1 to 0.1"
