"""alpha becomes ranks, and their record comes back from its file as it was written."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.errors import UserError
from autolora.configs.schema import ModelConfig, RunConfig
from autolora.engine import ranks
from autolora.engine.ranks import check_against, count_parameters
from autolora.engine.ranks.record import chosen_components
from tests.helpers.evidence import evidence_of, point
from tests.helpers.rank_records import SHAPES, answered_record, record_by_threshold

SIZES = {name: sum(shape) for name, shape in SHAPES.items()}


def searched_record() -> ranks.RankRecord:
    alpha = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.3, 0.3, 0.3, 0.1]])
    record = record_by_threshold(list(SIZES), alpha)
    return dataclasses.replace(record, lora_parameters=count_parameters(record.kept, SIZES))


def test_a_record_counts_ranks_and_parameters() -> None:
    record = searched_record()
    assert [layer.rank for layer in record.layers] == [1, 4, 3]
    assert record.mean_rank == pytest.approx(8 / 3)
    assert record.lora_parameters == 1 * 14 + 4 * 16 + 3 * 12
    assert record.kept == {"encoder.0.query": 1, "encoder.0.value": 4, "encoder.1.query": 3}


def test_layers_of_rank_0_count_in_the_mean_but_not_in_that_of_the_layers_that_keep_any() -> None:
    """retrain.scale mean_rank follows the latter."""
    record = ranks.RankRecord(8, (ranks.LayerRank("a", 0), ranks.LayerRank("b", 2), ranks.LayerRank("c", 5)))
    assert (record.mean_rank, record.mean_kept_rank) == (pytest.approx(7 / 3), 3.5)
    assert not record.all_equal
    assert ranks.RankRecord(8, (ranks.LayerRank("a", 2), ranks.LayerRank("b", 2))).all_equal
    assert ranks.counted(record, {"a": 10, "b": 10, "c": 100}).lora_parameters == 520


def test_the_mean_is_one_of_k_only_where_a_search_chose_from_k_components() -> None:
    """Rank 16 in every layer, which no search chose, was a mean of 16.00 of k = 8."""
    assert searched_record().mean_in_words == f"{searched_record().mean_rank:.2f} of k = 4"
    by_hand = ranks.RankRecord(8, (ranks.LayerRank("a", 16), ranks.LayerRank("b", 15)))
    assert by_hand.mean_in_words == "15.50"


def test_a_layer_is_seen_where_its_share_is_above_two_standard_errors() -> None:
    layer = ranks.LayerRank("a", 1, layer_share=0.021, layer_share_standard_error=0.01)
    assert layer.seen
    assert not dataclasses.replace(layer, layer_share=0.019).seen
    assert not dataclasses.replace(layer, layer_share_standard_error=None).seen
    assert not ranks.LayerRank("a", 1).seen


def test_the_error_of_a_part_is_the_recorded_one_or_that_of_the_share_in_units_of_the_total() -> None:
    older = ranks.LayerRank("a", 1, layer_share=0.2, layer_share_standard_error=0.01)
    assert older.part_error(0.5) == pytest.approx(0.02)
    assert dataclasses.replace(older, layer_part_standard_error=0.005).part_error(0.5) == 0.005


def test_only_a_threshold_leaves_ranks_undecided() -> None:
    layers = tuple(ranks.LayerRank("a", 1, decided=decided) for decided in (True, False, None))
    assert ranks.RankRecord(8, layers).undecided == [False, True, False]


def test_a_record_that_does_not_fit_the_model_is_refused() -> None:
    def said(*layers: ranks.LayerRank) -> str:
        with pytest.raises(UserError) as refused:
            check_against(ranks.RankRecord(8, layers), SHAPES, Path("r.json"))
        return str(refused.value)

    assert said(ranks.LayerRank("encoder.0.quer", 1)) == (
        "r.json: the model has no layer 'encoder.0.quer'; the nearest is 'encoder.0.query'"
    )
    assert said(ranks.LayerRank("#", 1)).startswith("r.json: the model has no layer '#'; the nearest is 'encoder.")
    fused = (ranks.LayerRank("h.0.c_attn", 1), ranks.LayerRank("h.0.c_attn.q", 1))
    assert said(*fused).startswith("r.json: h.0.c_attn is named whole and by part")
    assert said(ranks.LayerRank("encoder.0.query", 7)) == (
        "r.json: rank 7 of 'encoder.0.query' is out of range; allowed: 0 to 6"
    )
    assert said(ranks.LayerRank("encoder.0.query", 0)) == (
        "r.json: every rank is 0; at least one layer needs a rank of 1 or more"
    )
    check_against(ranks.RankRecord(8, (ranks.LayerRank("encoder.0.query", 6),)), SHAPES, Path("r.json"))


def test_ranks_json_has_the_agreed_form_and_comes_back(tmp_path: Path) -> None:
    record = searched_record()
    path = tmp_path / "ranks.json"
    ranks.save(record, path)
    raw = json.loads(path.read_text())
    assert {key: raw[key] for key in ("k", "constraint", "rule", "lambda")} == {
        "k": 4,
        "constraint": "softmax",
        "rule": "threshold",
        "lambda": 0.25,
    }
    assert raw["mean_rank"] == record.mean_rank
    assert raw["lora_parameters"] == record.lora_parameters
    assert [set(layer) for layer in raw["layers"]] == [{"name", "rank", "alpha", "contribution"}] * 3
    again = ranks.load(path)
    assert again.layers == record.layers
    assert (again.k, again.constraint, again.rule, again.threshold) == (4, "softmax", "threshold", 0.25)
    check_against(again, SHAPES, path)


def test_a_record_by_shares_says_its_budget_and_no_lambda(tmp_path: Path) -> None:
    layer = ranks.LayerRank(
        "encoder.0.query", 1, (0.5, 0.5), (1.0, 1.0), singular_values=(2.0, 1.0), share=(0.1, 0.3),
        share_standard_error=(0.01, 0.01), layer_share=0.4, layer_share_standard_error=0.02,
    )  # fmt: skip
    record = ranks.RankRecord(2, (layer,), rule="shares", budget=40, evidence=evidence_of(), tolerance=0.1)
    ranks.save(record, tmp_path / "ranks.json")
    raw = json.loads((tmp_path / "ranks.json").read_text())
    assert (raw["rule"], raw["lambda"], raw["budget"]) == ("shares", None, 40)
    assert "decided" not in raw["layers"][0]
    assert raw["layers"][0]["layer_share"] == 0.4
    assert ranks.load(tmp_path / "ranks.json") == record
    # The component of the largest share is the one that rank 1 stands for; by another rule it is the first.
    assert chosen_components(layer, record) == [1]
    unsure = dataclasses.replace(layer, share_standard_error=(0.01, 1.0))
    assert chosen_components(unsure, record) == [1], "the larger share counts, even an unsure one"
    assert chosen_components(layer, dataclasses.replace(record, rule="size")) == [0]
    with pytest.raises(UserError, match=r"encoder\.0\.query at rank 3, as the search has only 2 components"):
        chosen_components(dataclasses.replace(layer, rank=3), record)


def test_every_field_of_a_record_is_written_and_read_again(tmp_path: Path) -> None:
    """The names of the fields stood in seven lists; one that misses a list would be lost or refused."""
    layer = ranks.LayerRank("a", 1, (0.6,), (1.0,), (2.0,), (0.1,), (0.01,), 0.1, 0.01, 0.2, True)
    best = dataclasses.replace(point(1, -0.1), parameters=9, reference_kept_standard_error=0.01)
    measured = evidence_of(
        rank_curve=(best, point(8, 0.0, 0.0)), budget_curve=(best,), allowed_gap=0.03, regression=True
    )
    record = ranks.RankRecord(
        1, (layer,), "sigmoid", "shares", 0.5, 40, 16, "a note", measured, 0.1, 8.0, "fixed", "org/base", "v1"
    )
    for of in (layer, best, measured, record):
        unset = [field.name for field in dataclasses.fields(of) if getattr(of, field.name) == field.default]
        assert unset == [], "the test sets every field to another value than its default"
    ranks.save(record, tmp_path / "ranks.json")
    assert ranks.load(tmp_path / "ranks.json") == record


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("share", ["much"]), ("layer_share", "much"), ("decided", "yes"), ("singular_values", 3),
        ("share_standard_error", [None]), ("layer_part_standard_error", True),
    ],
)  # fmt: skip
def test_a_layer_of_other_types_is_refused_by_name(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "ranks.json"
    path.write_text(json.dumps({"layers": [{"name": "a", "rank": 1, key: value}]}))
    with pytest.raises(UserError, match=rf"layers\[0\] \(a\): {key} "):
        ranks.load(path)


def test_a_search_that_diverged_is_not_recorded_as_if_it_had_not(tmp_path: Path) -> None:
    alpha = torch.tensor([[math.nan, 0.5]])
    with pytest.raises(ValueError, match="JSON"):
        ranks.save(record_by_threshold(["a"], alpha), tmp_path / "ranks.json")
    assert not (tmp_path / "ranks.json").exists()


def test_what_is_read_back_and_written_again_is_what_it_was(tmp_path: Path) -> None:
    """A method that records its ranks again lost what a reader must know of them."""
    path = tmp_path / "ranks.json"
    config = dataclasses.replace(RunConfig(), model=ModelConfig(name="org/base", revision="v1"))
    record = dataclasses.replace(searched_record(), rule="shares", threshold=None, budget=90, note="2 ties")
    record = ranks.of_run(record, config)
    assert (record.lora_alpha, record.scale, record.base_model, record.revision) == (16, "mean_rank", "org/base", "v1")
    ranks.save(record, path)
    before = path.read_bytes()
    assert ranks.load(path) == record
    ranks.save(ranks.load(path), path)
    assert path.read_bytes() == before


def test_the_parameters_of_edited_ranks_are_counted_again() -> None:
    record = answered_record()
    sizes = {layer.name: 10 for layer in record.layers}
    edited = dataclasses.replace(
        record, layers=tuple(dataclasses.replace(layer, rank=1) for layer in record.layers), lora_parameters=784
    )
    assert ranks.counted(edited, sizes).lora_parameters == 10 * len(record.layers)
    assert ranks.counted(edited, {}).lora_parameters == 784, "sizes that are not known change nothing"


def test_components_without_a_share_above_0_are_taken_from_the_first_on() -> None:
    layer = ranks.LayerRank(
        "a", 2, singular_values=(3.0, 2.0, 1.0), share=(-0.2, -0.1, 0.2), share_standard_error=(0.1, 0.1, 0.01)
    )
    record = ranks.RankRecord(3, (layer,), rule="shares")
    assert chosen_components(layer, record) == [0, 2]
    none = dataclasses.replace(layer, rank=1, share=(-0.2, -0.1, -0.3))
    assert chosen_components(none, record) == [0]
    of_zero = dataclasses.replace(layer, rank=1, share=(-0.2, 0.0, -0.3))
    assert chosen_components(of_zero, record) == [0], "a share of 0 is not above 0"
    by_hand = ranks.LayerRank("a", 2)
    assert chosen_components(by_hand, record) == [0, 1], "a layer without shares"
    assert chosen_components(dataclasses.replace(layer, rank=3), record) == [0, 1, 2], "all of them"
