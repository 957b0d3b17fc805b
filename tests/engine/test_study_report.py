"""What a study concludes from its rows: agreement of ranks, distance to the exact hypergradient."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from engine.study_report import agreement, closeness, markdown, paper_tables

KIND = "hypergradient.type"


def test_agreement_is_between_runs_of_one_seed_and_its_diagonal_across_seeds() -> None:
    rows = [
        ("darts", 0, [1, 2, 3, 4]),
        ("darts", 1, [4, 3, 2, 1]),
        ("exact", 0, [10, 20, 30, 40]),
        ("exact", 1, [8, 6, 4, 2]),
    ]
    table = agreement(pd.DataFrame(rows, columns=[KIND, "seed", "ranks"])).set_index("approximation")
    assert table.loc["darts", "exact"] == table.loc["exact", "darts"] == pytest.approx(1)
    assert table.loc["darts", "darts"] == table.loc["exact", "exact"] == pytest.approx(-1)


def test_ranks_that_are_all_alike_agree_with_nothing() -> None:
    frame = pd.DataFrame({KIND: ["darts", "exact"], "ranks": [[4, 4, 4], [1, 2, 3]]})
    table = agreement(frame).set_index("approximation")
    assert math.isnan(table.loc["darts", "exact"])
    assert math.isnan(table.loc["darts", "darts"]), "one run has no other seed to agree with"


def test_closeness_is_the_mean_with_the_lowest_cosine_beside_it() -> None:
    frame = pd.DataFrame(
        {
            "approximation": ["darts", "darts", "sama"],
            "eta": ["1", "1", "1"],
            "cosine": [0.9, 0.5, 0.25],
            "norm_ratio": [1.0, 3.0, 1.0],
            "total_cosine": 1.0,
            "implicit_to_direct": 0.5,
        }
    )
    table = closeness(frame)
    assert table.columns[:5].to_list() == ["approximation", "eta", "cosine", "lowest cosine", "norm ratio"]
    assert table.iloc[0, 2:5].to_list() == pytest.approx([0.7, 0.5, 2.0])
    assert table.iloc[1, 2:4].to_list() == [0.25, 0.25]


def test_a_study_of_approximations_has_none_of_the_papers_tables() -> None:
    assert paper_tables(pd.DataFrame({KIND: ["darts"], "seed": [0]}), [KIND, "seed"]) == {}


def test_markdown() -> None:
    assert markdown(pd.DataFrame({"a": ["x"], "n": [1000]})) == "| a | n |\n| --- | --- |\n| x | 1,000 |\n"
