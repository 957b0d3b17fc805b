"""Differences between lines, and their tests, against values worked out by hand and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.table1.contrasts import contrasts_of
from tests.helpers.table1_runs import runs

PAIRS = {"shares 1": "1 shuffled"}


def test_differences_are_paired_by_seed_and_divided_by_the_gain_of_their_task() -> None:
    first = runs({"shares 1": [0.4, 0.5], "1 shuffled": [0.5, 0.45], "head": [0.8, 0.9]})
    second = runs({"shares 1": [1.0], "1 shuffled": [1.5], "head": [3.0]}, task="b")
    (one,) = contrasts_of(pd.concat([first, second]), PAIRS)
    assert one.differences["a"] == pytest.approx([0.1, -0.05])
    assert one.gains == pytest.approx({"a": 0.4, "b": 2.0})
    assert one.in_gains == pytest.approx([0.25, -0.125, 0.25])
    assert one.better == 2
    assert np.isnan(one.p)  # three pairs cannot reach 0.05


def test_a_seed_without_the_other_line_has_no_difference() -> None:
    (one,) = contrasts_of(runs({"shares 1": [0.4, 0.5], "1 shuffled": [0.5], "head": [0.8, 0.8]}), PAIRS)
    assert one.differences["a"] == pytest.approx([0.1])


def test_the_gain_is_that_of_the_seeds_that_have_both_the_line_and_the_head() -> None:
    """The head alone is much worse at the second seed, at which the line has no run."""
    (one,) = contrasts_of(runs({"shares 1": [0.4], "1 shuffled": [0.5], "head": [0.8, 1.6]}), PAIRS)
    assert one.gains["a"] == pytest.approx(0.4)


def test_p_is_that_of_all_tasks_and_is_corrected_over_the_tests_of_a_table() -> None:
    rng = np.random.default_rng(0)
    lines = ("shares 1", "1 shuffled", "shares 4", "4 shuffled")
    table = pd.concat(
        runs({line: 0.5 + 0.1 * rng.random(4) for line in lines} | {"head": np.full(4, 1.0)}, task=task)
        for task in ("a", "b")
    )
    found = contrasts_of(table, PAIRS | {"shares 4": "4 shuffled"})
    expected = [stats.wilcoxon(one.in_gains).pvalue for one in found]
    assert [one.p for one in found] == pytest.approx(expected)
    assert min(one.corrected for one in found) == pytest.approx(min(1.0, 2 * min(expected)))


def test_a_line_that_is_missing_or_has_learned_nothing_is_left_out() -> None:
    assert contrasts_of(runs({"shares 1": [0.4], "head": [0.8]}), PAIRS) == []
    assert contrasts_of(runs({"shares 1": [0.9], "1 shuffled": [0.9], "head": [0.8]}), PAIRS) == []


def test_a_shuffle_that_changed_no_rank_is_no_pair() -> None:
    table = runs({"shares 1": [0.4, 0.5], "1 shuffled": [0.5, 0.6], "head": [0.8, 0.8]}, ranks=[1, 2])
    moved = (table["variant"] == "1 shuffled") & (table["seed"] == 1)
    table.loc[moved, "ranks"] = pd.Series([[2.0, 1.0]], index=table.index[moved])
    (one,) = contrasts_of(table, PAIRS)
    assert one.differences["a"] == pytest.approx([0.1])
    assert len(contrasts_of(table, {"shares 1": "head"})[0].in_gains) == 2


@pytest.mark.parametrize("line", ["shares 1", "lora_modules"])
def test_a_line_that_chose_the_ranks_of_the_uniform_line_is_no_pair(line: str) -> None:
    """At seed 0 both have rank 1 everywhere; the losses differ by rounding, as those of two machines do."""
    table = runs({line: [0.5 + 1e-9, 0.4], "rank 1": [0.5, 0.6], "head": [0.8, 0.8]}, ranks=[1, 1])
    moved = (table["variant"] == line) & (table["seed"] == 1)
    table.loc[moved, "ranks"] = pd.Series([[2.0, 0.0]], index=table.index[moved])
    (one,) = contrasts_of(table, {line: "rank 1"})
    assert one.differences["a"] == pytest.approx([0.2])


def test_equal_ranks_at_another_rate_or_under_another_setting_are_a_pair() -> None:
    table = runs({"shares 4": [0.5], "rslora 4": [0.6], "rank 4": [0.4], "head": [0.8]}, ranks=[4, 4])
    assert [one.line for one in contrasts_of(table, {"shares 4": "rank 4", "rslora 4": "rank 4"})] == ["rslora 4"]
    table.loc[table["variant"] == "shares 4", "learning_rate"] = 0.003
    assert [one.line for one in contrasts_of(table, {"shares 4": "rank 4"})] == ["shares 4"]
