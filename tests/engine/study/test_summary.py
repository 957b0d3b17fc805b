"""The table of a study: which metrics it shows, and which one is the main one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from engine.study.summary import axes_of, cell, main_metric, rows_of, summarise


def results() -> pd.DataFrame:
    """Two seeds of two methods, as `collect` leaves them for sequence labelling."""
    rows = [
        {"method": method, "seed": seed, "metric.f1": f1, "metric.recall": 0.5, "metric.protein.f1": 0.25}
        for method, seed, f1 in [("lora", 0, 0.6), ("lora", 1, 0.8), ("full", 0, 0.9), ("full", 1, 0.9)]
    ]
    return pd.DataFrame(rows).assign(
        mean_rank=4.0, lora_parameters=8, trainable_parameters=9, search_seconds=None, total_seconds=1.0
    )


def test_the_first_metric_is_the_main_one() -> None:
    assert main_metric(results()) == "metric.f1"


def test_metrics_of_all_classes_are_shown_and_those_of_one_are_not() -> None:
    table = summarise(results(), ["method", "seed"]).set_index("method")
    assert table.loc["lora", "f1"] == pytest.approx(0.7)
    assert table.loc["lora", "f1 range"] == "0.600 to 0.800"
    assert [c for c in table.columns if "f1" in c or "recall" in c] == ["f1", "f1 range", "recall", "recall range"]


def test_without_axes_but_the_seed_there_is_one_row_of_all() -> None:
    table = summarise(results(), ["seed"])
    assert table["all"].to_list() == ["all"]
    assert table["runs"].to_list() == [4]
    assert table["f1"].to_list() == [pytest.approx(0.85)]


def test_places_without_a_value_and_of_two_axes_have_rows_of_their_own() -> None:
    frame = results().assign(place=["x", "y", None, None])
    table = summarise(frame, ["method", "place", "seed"])
    assert len(table) == 3, "a missing value is a place too"
    assert table["runs"].to_list() == [1, 1, 2]


def test_axes_stand_before_what_every_result_has() -> None:
    assert axes_of(pd.DataFrame(columns=["seed", "lora.k", "task", "method", "score"])) == ["seed", "lora.k"]


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
def test_a_cell_is_short(value: Any, text: str) -> None:
    assert cell(value) == text


def test_rows_keep_the_kinds_of_their_columns() -> None:
    """A whole number beside a fraction stays whole."""
    table = pd.DataFrame({"runs": [3], "f1": [0.5], "name": ["a"]})
    assert rows_of(table) == [["3", "0.500", "a"]]
    assert rows_of(table[["runs", "f1"]]) == [["3", "0.500"]]
