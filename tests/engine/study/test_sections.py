"""The tables of a study's report, with their titles and notes."""

import pandas as pd
import pytest

from autolora.engine.study.rows import REFERENCE
from autolora.engine.study.sections import closeness, study_sections


def test_closeness_is_the_mean_with_the_lowest_cosine_beside_it() -> None:
    frame = pd.DataFrame(
        {
            "approximation": ["darts", "darts", "sama"],
            "eta": ["1", "1", "1"],
            "cosine": [0.9, 0.5, 0.25],
            "step_cosine": 0.8,
            "norm_ratio": [1.0, 3.0, 1.0],
            "total_cosine": 1.0,
            "implicit_to_direct": 0.5,
        }
    )
    table = closeness(frame)
    assert table.columns[:5].to_list() == ["approximation", "eta", "cosine", "lowest cosine", "step cosine"]
    assert table.iloc[0, 2:6].to_list() == pytest.approx([0.7, 0.5, 0.8, 2.0])
    assert table.iloc[1, 2:4].to_list() == [0.25, 0.25]


def test_a_chosen_reference_is_in_the_titles_of_the_paired_tables_and_learned_ranks_alone_are_compared() -> None:
    cells = [(row, seed) for row in ("none", "darts", "lora") for seed in (0, 1)]
    frame = pd.DataFrame(cells, columns=["row", "seed"]).assign(
        task="sst2", main_metric="f1", score=[0.1, 0.2, 0.3, 0.5, 0.2, 0.2], log_loss=[0.9, 0.8, 0.5, 0.6, 0.7, 0.7],
        lora_parameters=8, trainable_parameters=8, mean_rank=1.0, search_seconds=None, total_seconds=1.0,
        layers=[["a", "b"]] * 6, ranks=[[1, 2]] * 4 + [[2, 1]] * 2, shares=None, outer_loss=None,
        evaluation="e", evaluated_rows=4, unused_rows=0, base_weights=None, method=["autolora"] * 4 + ["lora"] * 2,
    )  # fmt: skip
    frame[REFERENCE] = frame["row"] == "darts"
    found = {section.title: section for section in study_sections(frame)}
    of_loss = found["Paired differences of the log loss, same task and seed: darts"]
    assert of_loss.table["darts against"].to_list() == ["none", "lora"]
    assert of_loss.table["mean difference, nats"].to_list() == pytest.approx([0.3, 0.15])
    assert "Wilcoxon" in found["Paired differences, same task and seed: darts"].note
    (agreement,) = [section.table for title, section in found.items() if "at one seed" in title]
    assert agreement[""].to_list() == ["none", "darts"], "other methods read no hypergradient"
    assert not [title for title in found if "L_val" in title]
