"""A study's results as tables: a row for each place, and the paper's forms: by task, paired, cost."""

import itertools
import math

import pandas as pd
import pytest

from engine.study.tables import by_task, cost, paired, searched_rows, summarise

AXES = ["seed", "task.name", "method"]
METHODS = {"autolora": 0.02, "lora": 0.0, "adalora": -0.1}
SECONDS = {"autolora": 30.0, "lora": 8.0, "adalora": 20.0}


def results(seeds: int = 3) -> pd.DataFrame:
    rows = []
    for seed, task, method in itertools.product(range(seeds), ("sst2", "cola"), METHODS):
        level = 0.8 if task == "sst2" else 0.3
        rows.append(
            {
                "seed": seed,
                "task.name": task,
                "task": task,
                "method": method,
                "main_metric": "accuracy" if task == "sst2" else "matthews",
                "score": level + METHODS[method] + 0.001 * seed * (1 if method == "lora" else 2),
                "lora_parameters": 100 if method == "lora" else 110,
                "trainable_parameters": 200,
                "search_seconds": 12.0 if method == "autolora" else None,
                "total_seconds": SECONDS[method] * (1 + seed),
            }
        )
    return pd.DataFrame(rows)


def test_a_row_per_method_and_a_column_per_task() -> None:
    table = by_task(results(), AXES).set_index("")
    assert list(table.index) == list(METHODS)
    assert table.loc["lora", "sst2 (accuracy)"] == "0.801 (0.800 to 0.802)"
    assert table.loc["lora", "mean"] == pytest.approx((0.801 + 0.301) / 2)
    assert table.loc["autolora", "runs"] == 6


def test_sizes_are_medians_as_in_the_table_of_runs() -> None:
    sizes = results()
    sizes.loc[(sizes["method"] == "autolora") & (sizes["seed"] == 0), ["lora_parameters", "trainable_parameters"]] = 10
    table = by_task(sizes, AXES).set_index("")
    assert tuple(table.loc["autolora", ["LoRA parameters", "trainable parameters"]]) == (110, 200)


def test_pairs_are_of_one_task_and_seed() -> None:
    table = paired(results(), AXES).set_index("autolora against")
    assert table.loc["lora", "pairs"] == 6
    assert table.loc["lora", "mean difference"] == pytest.approx(0.02 + 0.001)
    assert tuple(table.loc["lora", ["better", "equal", "worse"]]) == (6, 0, 0)
    assert table.loc["lora", "p"] == pytest.approx(2 / 2**6)  # all six of one sign
    assert table.loc["lora", "LoRA parameters, ratio"] == pytest.approx(1.1)


def test_every_row_of_a_search_is_held_against_the_others() -> None:
    budget = results()[lambda t: t["method"] == "autolora"].assign(variant="budget")
    table = pd.concat([results().assign(variant=results()["method"]), budget])
    axes = ["seed", "task.name", "variant"]
    assert searched_rows(table, axes) == ["autolora", "budget"]
    found = paired(table, axes, "budget").set_index("budget against")
    assert set(found.index) == {"autolora", "lora", "adalora"}
    assert found.loc["autolora", "equal"] == 6
    ablations = table[table["method"] == "autolora"]
    assert searched_rows(ablations, axes) == ["autolora"], "where all are searches, all are held against the first"


def test_too_few_pairs_have_no_p() -> None:
    assert math.isnan(paired(results(seeds=2), AXES)["p"].iloc[0])
    alone = results()
    assert paired(alone[alone["method"] == "lora"], AXES).empty


def test_of_an_error_less_is_better_and_full_has_no_ratio() -> None:
    table = results().assign(main_metric="mse")
    table.loc[table["method"] == "lora", "lora_parameters"] = 0
    found = paired(table, AXES).set_index("autolora against")
    assert tuple(found.loc["lora", ["better", "worse"]]) == (0, 6)
    assert found.loc["lora", "mean difference"] < 0
    assert math.isnan(found.loc["lora", "LoRA parameters, ratio"])


def test_pairs_lie_at_one_place_on_every_other_axis() -> None:
    both = pd.concat([results().assign(**{"model.name": name}) for name in ("a", "b")])
    table = paired(both, [*AXES, "model.name"]).set_index("autolora against")
    assert table.loc["lora", "pairs"] == 12
    assert len(cost(both, [*AXES, "model.name"])) == 3


def test_a_row_without_every_task_has_no_mean() -> None:
    table = results()
    table = table[(table["task"] == "sst2") | (table["method"] != "lora")]
    assert math.isnan(by_task(table, AXES).set_index("").loc["lora", "mean"])


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
    table = summarise(tagging(), ["seed"])
    assert table["all"].to_list() == ["all"]
    assert table["runs"].to_list() == [4]
    assert table["f1"].to_list() == [pytest.approx(0.85)]


def test_places_without_a_value_and_of_two_axes_have_rows_of_their_own() -> None:
    frame = tagging().assign(place=["x", "y", None, None])
    table = summarise(frame, ["method", "place", "seed"])
    assert len(table) == 3, "a missing value is a place too"
    assert table["runs"].to_list() == [1, 1, 2]
