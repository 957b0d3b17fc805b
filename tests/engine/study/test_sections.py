"""The tables of a study's report, with their titles and notes."""

import pandas as pd
import pytest

from autolora.engine.study.rows import REFERENCE
from autolora.engine.study.sections import agreement_of_seeds, agreement_sections, closeness, paper_sections

KIND = "hypergradient.type"


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


def test_runs_that_read_no_hypergradient_do_not_count_in_its_agreement() -> None:
    """AdaLoRA's ranks are the same at every type, and correlated by 1."""
    places = [(kind, method) for kind in ("darts", "exact") for method in ("autolora", "adalora")]
    frame = pd.DataFrame(places, columns=[KIND, "method"]).assign(
        seed=0, task="sst2", ranks=[[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 2, 3]]
    )
    (section,) = agreement_sections(frame, [KIND, "method", "seed"])
    assert section.table.set_index(KIND).loc["darts", "exact"] == pytest.approx(-1.0)


def test_approximations_are_compared_in_pairs_as_variants_are() -> None:
    cells = [(kind, seed) for kind in ("none", "darts") for seed in (0, 1)]
    frame = pd.DataFrame(cells, columns=[KIND, "seed"]).assign(
        method="autolora", task="sst2", main_metric="f1", score=[0.1, 0.2, 0.3, 0.5], log_loss=[0.9, 0.8, 0.5, 0.6],
        lora_parameters=8, trainable_parameters=8, ranks=[[1, 2]] * 4,
    )  # fmt: skip
    sections = paper_sections(frame, [KIND, "seed"])
    found = {section.title: section.table for section in sections}
    of_loss = found["Paired differences of the log loss, same task and seed: none"].iloc[0]
    assert of_loss.iloc[:4].to_list() == ["darts", 2, pytest.approx(-0.3), pytest.approx(0.1)]
    assert list(found) == [
        "Metric by task: median (range) over seeds",
        "Log loss by task, at a fitted temperature: median (range) over seeds",
        "Paired differences, same task and seed: none",
        "Paired differences of the log loss, same task and seed: none",
    ], "the agreement and the cost of approximations have tables of their own"
    outer = paper_sections(frame.assign(outer_loss=[0.4, 0.3, 0.35, 0.2]), [KIND, "seed"])
    *_, of_score, of_loss, of_outer = outer
    assert of_outer.title == "Paired differences of L_val, same task and seed: none"
    assert of_outer.table.iloc[0].iloc[:4].to_list() == ["darts", 2, pytest.approx(-0.075), pytest.approx(0.025)]
    assert "Wilcoxon" in of_score.note
    assert of_loss.note == of_outer.note == "Read it as the first of these tables."


def test_a_chosen_reference_is_in_the_titles_of_the_paired_tables() -> None:
    cells = [(kind, seed) for kind in ("none", "darts", "sama") for seed in (0, 1)]
    frame = pd.DataFrame(cells, columns=[KIND, "seed"]).assign(
        method="autolora", task="sst2", main_metric="f1", score=[0.1, 0.2, 0.3, 0.5, 0.2, 0.2], log_loss=0.5,
        lora_parameters=8, trainable_parameters=8, ranks=[[1, 2]] * 6,
    )  # fmt: skip
    frame[REFERENCE] = frame[KIND] == "darts"
    found = {section.title: section for section in paper_sections(frame, [KIND, "seed"])}
    assert [title for title in found if title.startswith("Paired")] == [
        "Paired differences, same task and seed: darts",
        "Paired differences of the log loss, same task and seed: darts",
    ]
    table = found["Paired differences, same task and seed: darts"].table
    assert table["darts against"].to_list() == ["none", "sama"]


def test_ranks_and_shares_of_two_seeds_are_compared_in_one_table() -> None:
    shares = [[0.1, 0.2, 0.3], [0.1, 0.3, 0.2]]
    frame = pd.DataFrame({"seed": [0, 1], "method": "autolora", "task": "sst2", "ranks": [[1, 2, 3], [3, 2, 1]]})
    known = frame.assign(shares=shares, shares_within_type=[[1, 2, 3]] * 2)
    table = agreement_of_seeds(known, ["seed", "method"])
    assert table.columns.to_list() == ["", "of", "sst2"]
    assert table["of"].to_list() == ["ranks", "the layers' shares", "shares minus the mean of their module type"]
    assert table["sst2"].to_list() == ["-1.00", "0.50", "1.00"]
    unknown = frame.assign(shares=None, shares_within_type=None)
    assert agreement_of_seeds(unknown, ["seed", "method"])["of"].to_list() == ["ranks"]
    assert agreement_of_seeds(unknown[:1], ["seed", "method"]).empty
