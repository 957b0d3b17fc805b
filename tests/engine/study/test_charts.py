"""The metric of each method in a study, with every seed as a point."""

import numpy as np
import pandas as pd
import pytest

from autolora.engine.study.charts import metric_charts


def test_a_study_has_a_chart_a_task_with_ticks_at_medians_and_a_point_a_run() -> None:
    rows = [("a", 0, 0.1), ("a", 1, 0.3), ("a", 2, 0.9), ("b", 0, 0.5)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "score"]).assign(cell="x", task="t", main_metric="f1")
    other = frame.assign(task="u", score=0.0)
    made = metric_charts(pd.concat([frame, other]), ["method", "seed"])
    assert list(made) == ["metric-0", "metric-1"]
    bars, dots = (r.data_source.data for r in made["metric-0"].renderers)
    assert bars == {"row": ["a", "b"], "score": [0.3, 0.5], "label": ["a", "b"]}
    assert dots["score"] == [0.1, 0.3, 0.9, 0.5]
    assert dots["seed"] == ["0", "1", "2", "0"]
    ends = [(made[name].x_range.start, made[name].x_range.end) for name in made]
    assert ends == [pytest.approx((0.06, 0.94)), pytest.approx((-0.01, 0.01))], "also where all scores are equal"


def test_a_run_without_a_score_and_a_study_without_seeds_are_drawn() -> None:
    frame = pd.DataFrame({"method": ["a", "b", "b"], "score": [0.1, np.nan, 0.3]})
    made = metric_charts(frame.assign(cell="x", task="t", main_metric="f1"), ["method"])
    bars, dots = (r.data_source.data for r in made["metric-0"].renderers)
    assert bars == {"row": ["a", "b"], "score": [0.1, 0.3], "label": ["a", "b"]}
    assert dots["score"] == [0.1, 0.3]
    assert dots["seed"] == ["", ""]


def test_long_names_of_rows_leave_room_for_the_points_and_stay_apart() -> None:
    names = ["a", *(f"[query, key, value, output.dense], {middle}, learned ranks at budget 1" for middle in "xy")]
    frame = pd.DataFrame({"method": names, "score": 0.5}).assign(cell="x", task="t", main_metric="f1")
    made = metric_charts(frame, ["method"])["metric-0"]
    labels = made.renderers[0].data_source.data["label"]
    assert len(set(labels)) == 3
    assert max(map(len, labels)) <= 34
    assert made.renderers[1].data_source.data["row"] == names, "the tooltip has the whole name"
