"""alpha becomes ranks, and their record comes back from its file as it was written."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from engine import ranks
from engine.ranks import check_against, record_of
from engine.ranks.record import chosen_components, rule_behind
from engine.ranks.rules import RankRule
from tests.helpers.rank_records import SHAPES

SIZES = {name: sum(shape) for name, shape in SHAPES.items()}


def searched_record() -> ranks.RankRecord:
    alpha = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.3, 0.3, 0.3, 0.1]])
    return record_of(alpha, alpha * 2, RankRule("softmax", SIZES))


def test_a_record_counts_ranks_and_parameters() -> None:
    record = searched_record()
    assert [layer.rank for layer in record.layers] == [1, 4, 3]
    assert record.mean_rank == pytest.approx(8 / 3)
    assert record.lora_parameters == 1 * 14 + 4 * 16 + 3 * 12
    assert record.threshold == 0.25
    sigmoid = record_of(torch.tensor([[0.1, 0.2]]), torch.ones(1, 2), RankRule("sigmoid", {"a": 5}))
    assert (sigmoid.layers[0].rank, sigmoid.kept, sigmoid.threshold) == (0, {}, 0.5)
    assert record_of(torch.ones(1, 2), torch.ones(1, 2), RankRule("none", {"a": 5})).threshold is None


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


@pytest.mark.parametrize("budget", [None, 40])
def test_the_rule_and_its_choice_can_be_read_off_a_record(budget: int | None) -> None:
    alpha, rule = torch.tensor([[0.7, 0.3], [0.1, 0.9], [0.5, 0.5]]), RankRule("softmax", SIZES, budget)
    record = record_of(alpha, alpha * 2, rule)
    assert rule_behind(record, SIZES) == rule
    kept = torch.stack([chosen_components(layer, record) for layer in record.layers])
    assert torch.equal(kept, rule.kept(alpha, alpha * 2))


def test_no_rule_is_read_off_a_record_that_does_not_tell_it() -> None:
    by_budget = record_of(torch.ones(3, 2), torch.ones(3, 2), RankRule("softmax", SIZES, budget=40))
    assert rule_behind(by_budget, {}) is None, "what a component of each layer costs is not known"
    assert rule_behind(dataclasses.replace(searched_record(), rule="by hand"), SIZES) is None


def test_a_record_by_budget_says_the_budget_and_no_lambda(tmp_path: Path) -> None:
    contribution = torch.tensor([[0.5, 0.1], [0.0, 0.0], [0.4, 0.3]])
    record = record_of(torch.full((3, 2), 0.5), contribution, RankRule("softmax", SIZES, budget=40))
    ranks.save(record, tmp_path / "ranks.json")
    raw = json.loads((tmp_path / "ranks.json").read_text())
    assert (raw["rule"], raw["lambda"], raw["budget"]) == ("budget", None, 40)
    assert [layer["rank"] for layer in raw["layers"]] == [1, 0, 2]
    assert raw["lora_parameters"] == 14 + 2 * 12
    assert ranks.load(tmp_path / "ranks.json").kept == {"encoder.0.query": 1, "encoder.1.query": 2}


def test_a_search_that_diverged_is_not_recorded_as_if_it_had_not(tmp_path: Path) -> None:
    alpha = torch.tensor([[math.nan, 0.5]])
    with pytest.raises(ValueError, match="JSON"):
        ranks.save(record_of(alpha, alpha, RankRule("softmax", {"a": 2})), tmp_path / "ranks.json")
    assert not (tmp_path / "ranks.json").exists()


def test_what_is_read_back_and_written_again_is_what_it_was(tmp_path: Path) -> None:
    """A method that records its ranks again lost what a reader must know of them."""
    path = tmp_path / "ranks.json"
    record = dataclasses.replace(searched_record(), rule="budget", threshold=None, budget=90, note="2 ties")
    ranks.save(record, path)
    before = path.read_bytes()
    assert ranks.load(path) == record
    ranks.save(ranks.load(path), path)
    assert path.read_bytes() == before
