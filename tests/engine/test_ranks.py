"""alpha -> ranks, and the record of them: written, read back, written by hand, written wrongly."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import UserError
from engine import ranks
from engine.ranks import check_against, kept_components, record_of, thresholds
from problems.selection import SelectionVariables

SHAPES = {"encoder.0.query": (8, 6), "encoder.0.value": (8, 8), "encoder.1.query": (4, 8)}


@pytest.mark.parametrize("k", [1, 3, 6, 7, 8, 16])
@pytest.mark.parametrize("constraint", ["softmax", "sigmoid", "none"])
def test_at_the_uniform_start_every_component_is_kept(constraint: Any, k: int) -> None:
    variables = SelectionVariables(2, k, constraint)
    for shift in (0.0, 0.3, -7.7):  # softmax does not see a shift; its rounding does
        if constraint == "softmax":
            variables.beta.data.fill_(shift)
        assert kept_components(variables.alpha().detach(), constraint).all()


@pytest.mark.parametrize("k", [3, 6, 7, 8])
def test_a_rounding_error_below_lambda_is_lambda_and_more_is_not(k: int) -> None:
    uniform = torch.full((1, k), 1 / k)
    just_below = torch.nextafter(uniform, torch.zeros(1))
    assert (just_below < thresholds(uniform, "softmax")).all()
    assert kept_components(just_below, "softmax").all()
    clearly_below = uniform * (1 - 1e-4)
    assert not kept_components(clearly_below, "softmax").any()
    # The mean of k equal numbers may come out above each of them.
    for value in torch.linspace(-2, 2, 201).tolist():
        assert kept_components(torch.full((1, k), value), "none").all()


def test_the_thresholds_are_those_of_the_paper() -> None:
    alpha = torch.tensor([[0.7, 0.25, 0.03, 0.02], [0.26, 0.26, 0.24, 0.24]])
    assert thresholds(alpha, "softmax").flatten().tolist() == [0.25, 0.25]
    assert kept_components(alpha, "softmax").tolist() == [[True, True, False, False], [True, True, False, False]]
    assert kept_components(torch.tensor([[0.5, 0.499, 0.9, 0.0]]), "sigmoid").tolist() == [[True, False, True, False]]
    free = torch.tensor([[2.0, 1.0, -3.0, 4.0], [-1.0, -2.0, -3.0, -2.0]])
    assert thresholds(free, "none").flatten().tolist() == [1.0, -2.0]
    assert kept_components(free, "none").tolist() == [[True, True, False, True], [True, True, False, True]]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=16))
def test_softmax_and_none_keep_one_component_at_least(beta: list[float]) -> None:
    values = torch.tensor([beta])
    assert kept_components(values.softmax(dim=1), "softmax").any()
    assert kept_components(values, "none").any()


def searched_record() -> ranks.RankRecord:
    alpha = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.3, 0.3, 0.3, 0.1]])
    return record_of(list(SHAPES), alpha, alpha * 2, "softmax", {name: sum(shape) for name, shape in SHAPES.items()})


def test_a_record_counts_ranks_and_parameters() -> None:
    record = searched_record()
    assert [layer.rank for layer in record.layers] == [1, 4, 3]
    assert record.mean_rank == pytest.approx(8 / 3)
    assert record.lora_parameters == 1 * 14 + 4 * 16 + 3 * 12
    assert record.threshold == 0.25
    sigmoid = record_of(["a"], torch.tensor([[0.1, 0.2]]), torch.ones(1, 2), "sigmoid", {"a": 5})
    assert (sigmoid.layers[0].rank, sigmoid.kept, sigmoid.threshold) == (0, {}, 0.5)
    assert record_of(["a"], torch.ones(1, 2), torch.ones(1, 2), "none", {"a": 5}).threshold is None


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
        ranks.save(record_of(["a"], alpha, alpha, "softmax", {"a": 2}), tmp_path / "ranks.json")
    assert not (tmp_path / "ranks.json").exists()
