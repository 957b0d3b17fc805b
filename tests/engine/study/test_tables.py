"""A study's results as tables: a row for each place, and the paper's forms: by task, cost."""

import math

import pandas as pd
import pytest

from autolora.engine.study.paired import pairs_with
from autolora.engine.study.tables import by_task, cost, losses_by_task, outer_losses_by_task, summarise
from tests.helpers.study_results import AXES, METHODS, results


def test_a_row_per_method_and_a_column_per_task() -> None:
    table = by_task(results(), AXES).set_index("")
    assert list(table.index) == list(METHODS)
    assert table.loc["lora", "sst2 (accuracy)"] == "0.801 (0.800 to 0.802)"
    assert table.loc["lora", "mean"] == pytest.approx((0.801 + 0.301) / 2)
    assert table.loc["autolora", "runs"] == 6


def test_a_field_with_fewer_seeds_than_others_of_its_task_says_how_many() -> None:
    """A baseline that was run at seed 0 alone stood beside medians over four seeds."""
    table = results()
    table = table[(table["method"] != "lora") | (table["seed"] == 0) | (table["task"] == "cola")]
    found = by_task(table, AXES).set_index("")
    assert found.loc["lora", "sst2 (accuracy)"] == "0.800, 1 run"
    assert found.loc["lora", "cola (matthews)"] == "0.301 (0.300 to 0.302)"
    assert found.loc["autolora", "sst2 (accuracy)"] == "0.822 (0.820 to 0.824)"


def test_losses_have_a_table_like_that_of_the_metric_if_any_was_measured() -> None:
    table = losses_by_task(results(), AXES).set_index("")
    assert table.loc["lora", "sst2 (nats)"] == "0.1990 (0.1980 to 0.2000)"
    assert table.loc["lora", "mean"] == "0.4490"  # of 0.199 and 0.699
    assert losses_by_task(results().assign(log_loss=None), AXES).empty


def test_the_outer_objective_has_a_table_of_the_rows_that_searched() -> None:
    frame = results()
    assert outer_losses_by_task(frame, AXES).empty
    frame["outer_loss"] = frame["log_loss"].where(frame["method"] == "autolora")
    found, expected = (table(frame, AXES).set_index("") for table in (outer_losses_by_task, losses_by_task))
    assert list(found.index) == ["autolora"]
    assert found.loc["autolora", "sst2 (nats)"] == expected.loc["autolora", "sst2 (nats)"]
    assert not any("parameters" in name for name in found), "the searched models all have rank k"


def test_sizes_are_medians_as_in_the_table_of_runs() -> None:
    sizes = results()
    sizes.loc[(sizes["method"] == "autolora") & (sizes["seed"] == 0), ["lora_parameters", "trainable_parameters"]] = 10
    table = by_task(sizes, AXES).set_index("")
    assert tuple(table.loc["autolora", ["LoRA parameters", "trainable parameters"]]) == (110, 200)


def test_pairs_lie_at_one_place_on_every_other_axis() -> None:
    both = pd.concat([results().assign(**{"model.name": name}) for name in ("a", "b")])
    pairs = {name: len(found) for name, _, found in pairs_with(both, [*AXES, "model.name"], "autolora")}
    assert pairs["lora"] == 12
    assert len(cost(both, [*AXES, "model.name"])) == 3


def test_an_accuracy_and_an_error_have_no_mean() -> None:
    table = results()
    mixed = table.assign(main_metric=["perplexity" if task == "cola" else "accuracy" for task in table["task"]])
    assert by_task(mixed, AXES)["mean"].isna().all()
    assert by_task(table, AXES)["mean"].notna().all()


def test_a_row_without_every_task_has_no_mean() -> None:
    table = results()
    table = table[(table["task"] == "sst2") | (table["method"] != "lora")]
    assert math.isnan(by_task(table, AXES).set_index("").loc["lora", "mean"])


def test_a_row_without_a_loss_on_one_task_has_no_mean_and_means_have_the_digits_of_the_table() -> None:
    table = results()
    table["log_loss"] = table["log_loss"].where((table["task"] == "sst2") | (table["method"] != "lora"))
    means = losses_by_task(table, AXES).set_index("")["mean"]
    assert math.isnan(means["lora"])
    assert len(means["autolora"].partition(".")[2]) == 4


def test_cost_is_over_adalora_of_the_same_task_and_seed() -> None:
    table = cost(results(), AXES).set_index("")
    assert table.loc["autolora", "total time / adalora's"] == pytest.approx(1.5)
    assert table.loc["adalora", "total time / adalora's"] == 1
    assert table.loc["autolora", "search s"] == 12
    without = results()
    assert cost(without[without["method"] != "adalora"], AXES).empty


def tagging() -> pd.DataFrame:
    """Two seeds of two methods, as `collect` leaves them for sequence labelling."""
    rows = [
        {"method": method, "seed": seed, "metric.f1": f1, "metric.recall": 0.5, "metric.protein.f1": 0.25}
        for method, seed, f1 in [("lora", 0, 0.6), ("lora", 1, 0.8), ("full", 0, 0.9), ("full", 1, 0.9)]
    ]
    return pd.DataFrame(rows).assign(
        mean_rank=4.0, lora_parameters=8, trainable_parameters=9, search_seconds=None, total_seconds=1.0
    )


def test_metrics_of_all_classes_are_shown_and_those_of_one_are_not() -> None:
    table = summarise(tagging(), ["method", "seed"]).set_index("method")
    assert table.loc["lora", "f1"] == pytest.approx(0.7)
    assert table.loc["lora", "f1 range"] == "0.600 to 0.800"
    assert [c for c in table.columns if "f1" in c or "recall" in c] == ["f1", "f1 range", "recall", "recall range"]


def test_without_axes_but_the_seed_there_is_one_row_of_all() -> None:
    table = summarise(tagging().assign(mean_rank=[1.0, 1.0, 1.0, 5.0]), ["seed"])
    assert table["mean rank"].to_list() == [2.0]
    assert table["all"].to_list() == ["all"]
    assert table["runs"].to_list() == [4]
    assert table["f1"].to_list() == [pytest.approx(0.85)]


def test_places_without_a_value_and_of_two_axes_have_rows_of_their_own() -> None:
    frame = tagging().assign(place=["x", "y", None, None])
    table = summarise(frame, ["method", "place", "seed"])
    assert len(table) == 3, "a missing value is a place too"
    assert table["runs"].to_list() == [1, 1, 2]


def test_one_seed_that_lies_far_off_moves_no_middle() -> None:
    table = results()
    far = (table["seed"] == 2) & (table["method"] == "lora")
    table.loc[far, "score"] = 9.0
    table.loc[far, "total_seconds"] *= 100
    found = by_task(table, AXES).set_index("")
    assert found.loc["lora", "mean"] == pytest.approx((0.801 + 0.301) / 2)
    assert cost(table, AXES).set_index("").loc["lora", "total time / adalora's"] == pytest.approx(8 / 20)


def test_seconds_are_medians_of_their_own_column() -> None:
    frame = tagging().assign(search_seconds=[1.0, 3.0, 5.0, 7.0], total_seconds=[10.0, 30.0, 50.0, 70.0])
    table = summarise(frame, ["method", "seed"]).set_index("method")
    assert table[["search s", "total s"]].to_numpy().tolist() == [[2.0, 20.0], [6.0, 60.0]]
    assert cost(results(), AXES).set_index("").loc["autolora", "total s"] == 60.0
