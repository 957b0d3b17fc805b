"""Runs that missed the budget of their line count nowhere."""

import pandas as pd

from benchmarks.table1.sizes import of_their_size
from tests.helpers.table1_runs import runs


def test_a_search_that_learned_nothing_has_no_run_at_its_budget(log_lines: list[str]) -> None:
    lines = ("shares 0.25", "0.25 shuffled", "shares 1", "lora_modules")
    usual = runs({line: [0.5, 0.4, 0.3] for line in lines})
    usual.loc[usual["variant"].isin(lines[:2]), "lora_parameters"] = 25
    usual.loc[usual["seed"] == 2, "lora_parameters"] = [
        100,
        100,
        110,
        40,
    ]  # rank 1 in every layer, for the first three
    left = of_their_size(pd.concat([usual, runs({"shares 0.25": [0.6]}, task="b", parameters=400)]))
    found = {line: list(part["seed"]) for line, part in left[left["task"] == "a"].groupby("variant", sort=False)}
    assert found == {"shares 0.25": [0, 1], "0.25 shuffled": [0, 1], "shares 1": [0, 1, 2], "lora_modules": [0, 1, 2]}
    assert len(left[left["task"] == "b"]) == 1
    assert log_lines == [
        "INFO a, seed 2: left out, as they have another size than their lines: shares 0.25, 0.25 shuffled"
    ]
