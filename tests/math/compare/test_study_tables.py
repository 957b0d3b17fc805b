"""A study's results as tables: the paper's forms, by task and cost."""

import pytest

from autolora.engine.study.tables import by_task, cost
from tests.helpers.study_results import AXES, METHODS, results


def test_a_row_per_method_and_a_column_per_task() -> None:
    table = by_task(results(), AXES).set_index("")
    assert list(table.index) == list(METHODS)
    assert table.loc["lora", "sst2 (accuracy)"] == "0.801 (0.800 to 0.802)"
    assert table.loc["lora", "mean"] == pytest.approx((0.801 + 0.301) / 2)
    assert table.loc["autolora", "runs"] == 6


def test_an_accuracy_and_an_error_have_no_mean() -> None:
    table = results()
    mixed = table.assign(main_metric=["perplexity" if task == "cola" else "accuracy" for task in table["task"]])
    assert by_task(mixed, AXES)["mean"].isna().all()
    assert by_task(table, AXES)["mean"].notna().all()


def test_cost_is_over_adalora_of_the_same_task_and_seed() -> None:
    table = cost(results(), AXES).set_index("")
    assert table.loc["autolora", "total time / adalora's"] == pytest.approx(1.5)
    assert table.loc["adalora", "total time / adalora's"] == 1
    assert table.loc["autolora", "search s"] == 12
    without = results()
    assert cost(without[without["method"] != "adalora"], AXES).empty


def test_one_seed_that_lies_far_off_moves_no_middle() -> None:
    table = results()
    far = (table["seed"] == 2) & (table["method"] == "lora")
    table.loc[far, "score"] = 9.0
    table.loc[far, "total_seconds"] *= 100
    found = by_task(table, AXES).set_index("")
    assert found.loc["lora", "mean"] == pytest.approx((0.801 + 0.301) / 2)
    assert cost(table, AXES).set_index("").loc["lora", "total time / adalora's"] == pytest.approx(8 / 20)
