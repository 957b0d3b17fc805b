"""A study's results as tables: by task, cost, and the agreement of ranks and shares."""

import math

import pandas as pd
import pytest

from autolora.engine.study.tables import agreement, by_task, cost
from tests.helpers.study_results import METHODS, results


def test_a_row_per_method_and_a_column_per_task() -> None:
    table = by_task(results()).set_index("")
    assert list(table.index) == list(METHODS)
    assert table.loc["lora", "sst2 (accuracy)"] == "0.801 (0.800 to 0.802)"
    assert table.loc["lora", "mean"] == pytest.approx((0.801 + 0.301) / 2)
    assert table.loc["autolora", "runs"] == 6
    losses = by_task(results(), "log_loss").set_index("")
    assert losses.loc["lora", "sst2 (nats)"] == "0.1990 (0.1980 to 0.2000)"
    assert "mean" not in losses, "tasks differ in the size of their losses"


def test_a_row_without_a_run_on_a_task_has_no_mean() -> None:
    none = results()[lambda runs: (runs["method"] != "lora") | (runs["task"] == "cola")]
    table = by_task(none).set_index("")
    assert table.loc["lora", "sst2 (accuracy)"] == ""
    assert math.isnan(table.loc["lora", "mean"])


def test_an_accuracy_and_an_error_have_no_mean() -> None:
    table = results()
    mixed = table.assign(
        main_metric=["perplexity" if task == "cola" else "accuracy" for task in table["task"]]
    )
    assert "mean" not in by_task(mixed)


def test_cost_is_over_adalora_of_the_same_task_and_seed() -> None:
    named = results().assign(
        row=lambda runs: runs["method"].replace("adalora", "AdaLoRA at rank 4")
    )
    table = cost(named).set_index("")
    assert table.loc["autolora", "total time / adalora's"] == "1.50 (1.50 to 1.50)"
    assert table.loc["AdaLoRA at rank 4", "total time / adalora's"] == "1.00 (1.00 to 1.00)"
    assert table.loc["autolora", "search s"] == 12
    assert len(cost(named[named["method"] != "adalora"]).columns) == 4, "no ratio"


def layered(
    *rows: tuple[str, str, int, list[float] | None], layers: list[list[str]] | None = None
) -> pd.DataFrame:
    """Runs of these rows, tasks and seeds with these ranks."""
    table = pd.DataFrame(rows, columns=["row", "task", "seed", "ranks"])
    return table.assign(
        layers=layers or [["a", "b", "c", "d"][: len(ranks or ())] for ranks in table["ranks"]]
    )


def test_a_row_agrees_with_itself_over_every_pair_of_seeds() -> None:
    table = agreement(
        layered(
            ("autolora", "sst2", 0, [1, 2, 3, 4]),
            ("autolora", "sst2", 1, [2, 4, 6, 8]),
            ("autolora", "sst2", 2, [4, 3, 2, 1]),
            ("autolora", "rte", 0, [1, 2, 3, 4]),
            ("lora", "sst2", 0, [4, 4]),
            ("lora", "sst2", 1, [4, 4]),
            ("full", "sst2", 0, None),
        )
    ).set_index("")
    assert table.loc["autolora", "autolora"] == pytest.approx(-1 / 3)
    assert list(table.index) == ["autolora"], "uniform ranks have no order"
    assert agreement(layered(("a", "sst2", 0, [1, 2]))).empty


def test_agreement_is_of_orders_and_not_of_distances() -> None:
    rows = layered(("a", "sst2", 0, [1, 2, 10]), ("a", "sst2", 1, [1, 5, 6]))
    assert agreement(rows).set_index("").loc["a", "a"] == 1  # by Pearson 0.73


def test_rows_agree_at_one_task_and_seed_and_with_themselves_across_seeds() -> None:
    up = [1, 2, 3, 4]
    down = [4, 3, 2, 1]
    table = agreement(
        layered(
            ("darts", "sst2", 0, up),
            ("darts", "sst2", 1, down),
            ("exact", "sst2", 0, [10, 20, 30, 40]),
            ("exact", "sst2", 1, [8, 6, 4, 2]),
            ("darts", "cola", 0, down),
            ("exact", "cola", 0, down),
            ("exact", "rte", 0, up),
        )
    ).set_index("")
    assert table.loc["darts", "exact"] == table.loc["exact", "darts"] == pytest.approx(1)
    assert table.loc["darts", "darts"] == table.loc["exact", "exact"] == pytest.approx(-1)
    assert agreement(layered(("darts", "sst2", 0, up))).empty


def test_runs_with_lora_in_different_layers_are_not_compared() -> None:
    rows = layered(("a", "t", 0, [1, 2]), ("b", "t", 0, [1, 2]), layers=[["q", "v"], ["k", "o"]])
    assert agreement(rows).empty
