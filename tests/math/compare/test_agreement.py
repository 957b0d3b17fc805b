"""Agreement of learned ranks and of shares: between seeds, and between approximations or variants."""

import math

import pandas as pd
import pytest

from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.study.agreement import SHARES, WITHIN_TYPE, between_rows, between_seeds, by_chance, shares_of

KIND = "hypergradient.type"
AXES = ["seed", "task.name", "method"]


def a_study(rows: list[tuple[int, str, str, list[int] | None]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["seed", "task", "method", "ranks"])
    return frame.assign(**{"task.name": frame["task"]})


def test_a_method_agrees_with_itself_over_every_pair_of_seeds() -> None:
    table = between_seeds(
        a_study(
            [
                (0, "sst2", "autolora", [1, 2, 3, 4]),
                (1, "sst2", "autolora", [2, 4, 6, 8]),
                (2, "sst2", "autolora", [4, 3, 2, 1]),
                (0, "cola", "autolora", [1, 2, 3, 4]),
                (1, "cola", "autolora", [1, 2, 4, 3]),
            ]
        ),
        AXES,
    ).set_index("")
    assert table.loc["autolora", "sst2"] == "-0.33 (-1.00 to 1.00)"  # pairs: 1, -1, -1
    assert table.loc["autolora", "cola"] == "0.80"


def test_agreement_is_of_orders_and_not_of_distances() -> None:
    rows = a_study([(0, "sst2", "autolora", [1, 2, 10]), (1, "sst2", "autolora", [1, 5, 6])])
    assert between_seeds(rows, AXES).set_index("").loc["autolora", "sst2"] == "1.00"  # by Pearson 0.73
    assert between_rows(rows.assign(method=["a", "b"], seed=0), AXES, "method").set_index("method").loc["a", "b"] == 1


def test_ranks_that_say_nothing_have_no_row() -> None:
    same = [(seed, "sst2", "lora", [4, 4, 4]) for seed in (0, 1)]
    none: list[tuple[int, str, str, list[int] | None]] = [(seed, "sst2", "full", None) for seed in (0, 1)]
    once = [(0, "sst2", "autolora", [1, 2, 3])]
    assert between_seeds(a_study([*same, *none, *once]), AXES).empty


def test_a_task_without_two_seeds_is_left_blank() -> None:
    rows = [(0, "sst2", "autolora", [1, 2]), (1, "sst2", "autolora", [1, 2]), (0, "cola", "autolora", [1, 2])]
    table = between_seeds(a_study([*rows, (0, "rte", "adalora", [1, 2]), (1, "rte", "adalora", [2, 1])]), AXES)
    assert table.set_index("").loc["autolora"].to_dict() == {"sst2": "1.00", "cola": "", "rte": ""}
    assert table.set_index("").loc["adalora", "rte"] == "-1.00"


def test_approximations_agree_at_one_seed_and_with_themselves_across_seeds() -> None:
    rows = [
        ("darts", 0, [1, 2, 3, 4]),
        ("darts", 1, [4, 3, 2, 1]),
        ("exact", 0, [10, 20, 30, 40]),
        ("exact", 1, [8, 6, 4, 2]),
    ]
    table = between_rows(pd.DataFrame(rows, columns=[KIND, "seed", "ranks"]), [], KIND).set_index(KIND)
    assert table.loc["darts", "exact"] == table.loc["exact", "darts"] == pytest.approx(1)
    assert table.loc["darts", "darts"] == table.loc["exact", "exact"] == pytest.approx(-1)


def test_approximations_are_compared_at_one_place_on_the_other_axes() -> None:
    """Tasks differ in their ranks, and targets in their number: what crosses them says nothing."""
    up, down = [1, 2, 3, 4], [4, 3, 2, 1]
    rows = [(kind, task, 0, up if task == "cola" else down) for kind in ("darts", "exact") for task in ("cola", "rte")]
    frame = pd.DataFrame(
        [*rows, ("darts", "wnli", 0, [1, 2]), ("exact", "wnli", 0, None)], columns=[KIND, "task.name", "seed", "ranks"]
    )
    table = between_rows(frame, ["seed", "task.name", KIND], KIND).set_index(KIND)
    assert table.loc["darts", "exact"] == pytest.approx(1)
    assert math.isnan(table.loc["darts", "darts"]), "one seed at each place"


def test_a_study_of_several_axes_without_shares_has_no_table_of_shares() -> None:
    """With two further axes the report had failed, after all cells were trained."""
    rows = [(kind, rank, epochs, 0, None) for kind in ("darts", "exact") for rank in (1, 2) for epochs in (1, 2)]
    frame = pd.DataFrame(rows, columns=[KIND, "lora.r", "retrain.epochs", "seed", "shares"])
    assert between_rows(frame, [KIND, "lora.r", "retrain.epochs", "seed"], KIND, "shares").empty


def test_ranks_that_are_all_alike_agree_with_nothing() -> None:
    frame = pd.DataFrame({KIND: ["darts", "exact"], "ranks": [[4, 4, 4], [1, 2, 3]]})
    table = between_rows(frame, [], KIND).set_index(KIND)
    assert math.isnan(table.loc["darts", "exact"])
    assert math.isnan(table.loc["darts", "darts"]), "one run has no other seed to agree with"


def record_with(*shares: float | None) -> RankRecord:
    names = ["a.0.query", "a.0.value", "a.1.query", "a.1.value"]
    return RankRecord(1, tuple(LayerRank(n, 1, layer_share=s) for n, s in zip(names, shares, strict=True)))


def test_shares_are_kept_as_they_are_and_less_the_mean_of_their_module_type() -> None:
    found = shares_of(record_with(0.1, 0.5, 0.3, 0.9))
    assert found[SHARES] == [0.1, 0.5, 0.3, 0.9]
    assert found[WITHIN_TYPE] == pytest.approx([-0.1, -0.2, 0.1, 0.2])
    assert shares_of(record_with(0.1, None, 0.3, 0.9)) == shares_of(None) == {SHARES: None, WITHIN_TYPE: None}


def test_shares_agree_between_seeds_and_between_variants_at_one_seed() -> None:
    up, down = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    rows = [("a", 0, up), ("a", 1, up), ("b", 0, down), ("b", 1, down), ("lora", 0, None)]
    frame = pd.DataFrame(rows, columns=["variant", "seed", SHARES]).assign(task="sst2")
    assert between_seeds(frame, ["seed", "variant"], SHARES).set_index("")["sst2"].to_dict() == {
        "a": "1.00",
        "b": "1.00",
    }
    table = between_rows(frame, ["seed", "variant"], "variant", SHARES).set_index("variant")
    assert table.loc["a", "b"] == pytest.approx(-1)
    assert table.loc["a", "a"] == pytest.approx(1)
    assert "lora" not in table
    assert between_rows(frame[frame["variant"] != "b"], ["seed", "variant"], "variant", SHARES).empty


def test_runs_with_lora_in_different_layers_are_not_compared() -> None:
    """Unequal numbers of layers were a traceback; equal numbers were compared place by place."""
    qv, ko, all_four = ["q", "v"], ["k", "o"], ["q", "v", "k", "o"]
    rows = [
        ("a", 0, qv, [1, 2]), ("a", 1, qv, [2, 4]), ("b", 0, ko, [1, 2]), ("b", 1, ko, [2, 1]),
        ("c", 0, all_four, [1, 2, 3, 4]), ("c", 1, all_four, [1, 2, 3, 4]),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["variant", "seed", "layers", "ranks"])
    table = between_rows(frame, ["seed", "variant"], "variant").set_index("variant")
    assert [table.loc[name, name] for name in "abc"] == pytest.approx([1, -1, 1])
    assert all(math.isnan(table.loc[one, other]) for one, other in ("ab", "ac", "bc"))
    older = between_rows(frame.drop(columns="layers"), ["seed", "variant"], "variant").set_index("variant")
    assert math.isnan(older.loc["a", "c"])


def test_the_correlation_of_unrelated_orders_is_told_where_there_are_two_layers_or_more() -> None:
    def said(ranks: list[int] | None) -> str:
        return by_chance(a_study([(0, "sst2", "autolora", ranks), (1, "sst2", "lora", None)]))

    assert said([1, 2, 3, 4, 5]) == "Unrelated orders of 5 layers correlate by 0 +- 0.50."
    assert said([1, 2]) == "Unrelated orders of 2 layers correlate by 0 +- 1.00."
    assert said([3]) == said(None) == ""
    assert by_chance(pd.DataFrame({"seed": [0]})) == ""
