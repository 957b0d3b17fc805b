"""Runs that missed the budget of their line count nowhere."""

import pandas as pd

from benchmarks.table1.sizes import of_their_size
from tests.helpers.table1_runs import runs


def test_a_run_within_a_fifth_of_its_budget_counts() -> None:
    """The budget of these lines is a quarter of the 400 parameters of rank 1."""
    whole = runs({"rank 1": [0.4]}, parameters=400)
    for parameters, counts in ((79, False), (81, True), (119, True), (121, False)):
        both = pd.concat([whole, runs({"shares 0.25": [0.5]}, parameters=parameters)], ignore_index=True)
        assert ("shares 0.25" in set(of_their_size(both)["variant"])) is counts


def test_a_search_that_learned_nothing_has_no_run_at_its_budget(log_lines: list[str]) -> None:
    """It has rank 1 in every layer, at seed 1; two seeds must do to tell which one missed the budget."""
    lines = ("shares 0.25", "0.25 shuffled", "shares 1", "shares 4", "lora_modules", "rank 1")
    table = runs({line: [0.5, 0.4] for line in lines})
    at_budget = {"shares 0.25": 26, "0.25 shuffled": 26, "shares 4": 400, "lora_modules": 40}
    first = table["seed"] == 0
    table.loc[first, "lora_parameters"] = [at_budget.get(line, 100) for line in table.loc[first, "variant"]]
    left = of_their_size(pd.concat([table, runs({"shares 0.25": [0.6]}, task="b", parameters=400)]))
    found = {line: list(part["seed"]) for line, part in left[left["task"] == "a"].groupby("variant", sort=False)}
    assert found == {line: [0] for line in ("shares 0.25", "0.25 shuffled", "shares 4")} | {
        "shares 1": [0, 1], "lora_modules": [0, 1], "rank 1": [0, 1],
    }  # fmt: skip
    assert len(left[left["task"] == "b"]) == 1, "without rank 1 nobody knows the budget"
    assert log_lines == [
        "INFO a, seed 1: left out, as they have another size than their lines: shares 0.25, 0.25 shuffled, shares 4"
    ]
