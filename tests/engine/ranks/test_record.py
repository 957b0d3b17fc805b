"""alpha -> ranks, and the record of them: written, read back, written by hand, written wrongly."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import UserError
from engine import ranks
from engine.ranks import check_against, record_of
from engine.ranks.rules import RankRule

SHAPES = {"encoder.0.query": (8, 6), "encoder.0.value": (8, 8), "encoder.1.query": (4, 8)}
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


def test_a_record_by_budget_says_the_budget_and_no_lambda(tmp_path: Path) -> None:
    contribution = torch.tensor([[0.5, 0.1], [0.0, 0.0], [0.4, 0.3]])
    record = record_of(torch.full((3, 2), 0.5), contribution, RankRule("softmax", SIZES, budget=40))
    ranks.save(record, tmp_path / "ranks.json")
    raw = json.loads((tmp_path / "ranks.json").read_text())
    assert (raw["rule"], raw["lambda"], raw["budget"]) == ("budget", None, 40)
    assert [layer["rank"] for layer in raw["layers"]] == [1, 0, 2]
    assert raw["lora_parameters"] == 14 + 2 * 12
    assert ranks.load(tmp_path / "ranks.json").kept == {"encoder.0.query": 1, "encoder.1.query": 2}


def test_a_record_written_by_hand_needs_names_and_ranks_only(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    path.write_text('{"layers": [{"name": "encoder.0.query", "rank": 3}, {"name": "encoder.0.value", "rank": 0}]}')
    record = ranks.load(path)
    assert record.k == 3
    assert record.kept == {"encoder.0.query": 3}
    assert record.rule == "by hand"
    check_against(record, SHAPES, path)


def layers(*pairs: tuple[Any, Any]) -> str:
    return json.dumps({"layers": [{"name": name, "rank": rank} for name, rank in pairs]})


BAD = {
    "missing file": (None, "not readable as JSON"),
    "not JSON": ("{layers: ", "not readable as JSON"),
    "not text": (b"\xff\xfe{}", "not readable as JSON"),
    "not an object": ("[]", 'needs an object with a non-empty list "layers"'),
    "no layers": ('{"k": 4}', 'needs an object with a non-empty list "layers"'),
    "empty layers": ('{"layers": []}', 'needs an object with a non-empty list "layers"'),
    "layer is no object": ('{"layers": ["encoder.0.query"]}', r"layers\[0\]: needs an object"),
    "layer without name": ('{"layers": [{"rank": 2}]}', r"layers\[0\]: needs an object"),
    "twice": (layers(("encoder.0.query", 2), ("encoder.0.query", 3)), "layer 'encoder.0.query' stands there twice"),
    "negative": (layers(("encoder.0.query", -1)), r"layers\[0\] \(encoder.0.query\): rank is -1; allowed: a whole"),
    "float": (layers(("encoder.0.query", 2.0)), "rank is 2.0"),
    "bool": (layers(("encoder.0.query", True)), "rank is True"),
    "text": (layers(("encoder.0.query", "2")), "rank is '2'"),
    "missing rank": ('{"layers": [{"name": "encoder.0.query"}]}', "rank is None"),
    "bad alpha": ('{"layers": [{"name": "a", "rank": 1, "alpha": "x"}]}', "alpha must be a list of numbers"),
    "bad k": ('{"k": 2.5, "layers": [{"name": "encoder.0.query", "rank": 1}]}', "k is 2.5; allowed: a whole number"),
    "zero k": ('{"k": 0, "layers": [{"name": "encoder.0.query", "rank": 1}]}', "k is 0; allowed: a whole number"),
    "unknown": (layers(("encoder.0.qeury", 2)), "no layer 'encoder.0.qeury'; the nearest is 'encoder.0.query'"),
    "too large": (layers(("encoder.1.query", 5)), "rank 5 of 'encoder.1.query' is out of range; allowed: 0 to 4"),
    "NaN in alpha": ('{"layers": [{"name": "a", "rank": 1, "alpha": [NaN]}]}', "alpha must be a list of numbers"),
    "a number beyond every float": (
        '{"layers": [{"name": "a", "rank": 1, "alpha": [1%s]}]}' % ("0" * 400),
        "alpha must be",
    ),
    "true in contribution": ('{"layers": [{"name": "a", "rank": 1, "contribution": [true]}]}', "contribution must"),
    "k beyond every float": ('{"k": 1%s, "layers": [{"name": "a", "rank": 1}]}' % ("0" * 400), "k is 1000"),
    "too deep": ("[" * 100_000, "not readable as JSON"),
    "unknown field": (
        '{"comment": "x", "layers": [{"name": "a", "rank": 1}]}',
        r"unknown field 'comment'; allowed: k, .*note",
    ),
    "field misspelt": (
        '{"layers": [{"name": "a", "rnak": 1}]}',
        r"layers\[0\] \(a\): unknown field 'rnak'; did you mean 'rank'",
    ),
    "other constraint": (
        '{"constraint": "max", "layers": [{"name": "a", "rank": 1}]}',
        "constraint is 'max'; allowed: softmax, sigmoid, none",
    ),
    "rule of number": ('{"rule": 3, "layers": [{"name": "a", "rank": 1}]}', "rule is 3; allowed: text"),
    "lambda in words": (
        '{"lambda": "1/k", "layers": [{"name": "a", "rank": 1}]}',
        "lambda is '1/k'; allowed: a number, null",
    ),
    "half a budget": (
        '{"budget": 0.5, "layers": [{"name": "a", "rank": 1}]}',
        "budget is 0.5; allowed: a whole number",
    ),
    "note of number": ('{"note": 3, "layers": [{"name": "a", "rank": 1}]}', "note is 3; allowed: text, null"),
    "all zero": (layers(("encoder.0.query", 0)), "one rank above 0"),
    "all zero with k": ('{"k": 4, "layers": [{"name": "encoder.0.query", "rank": 0}]}', "every rank is 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_one_line_that_names_file_and_entry(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    path = tmp_path / "ranks.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        check_against(ranks.load(path), SHAPES, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


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
