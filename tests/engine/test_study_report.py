"""What a study concludes from its rows: distance to the exact hypergradient."""

from __future__ import annotations

import pandas as pd
import pytest

from engine.study_report import closeness, markdown, paper_tables

KIND = "hypergradient.type"


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
