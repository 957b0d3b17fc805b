"""The table of a study: which metrics it shows, and which one is the main one."""

from __future__ import annotations

import pandas as pd
import pytest

from engine.study_report import main_metric, summarise


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
