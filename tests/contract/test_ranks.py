"""What a search says: shares that add up to the measured gain, the curve, and ranks by each rule
within a budget."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import CURVE, LEARNING, Chat, Finished, Tiny
from tests.contract.program import refused, succeed
from tests.contract.readers import read

KEYS = {
    "k",
    "constraint",
    "rule",
    "lambda",
    "layers",
    "mean_rank",
    "lora_parameters",
    "lora_alpha",
    "scale",
    "base_model",
    "revision",
    "gain",
    "share_total",
    "rank_curve",
    "budget_curve",
    "sufficient_rank",
}
LAYER = {
    "name",
    "rank",
    "alpha",
    "contribution",
    "singular_values",
    "share",
    "share_standard_error",
    "layer_share",
    "layer_share_standard_error",
}
POINT = {"loss", "standard_error", "kept", "kept_standard_error"}
K = 4
# parameters of a component: the width is 32, that of the values 16
SIZES = {"q_proj": 64, "v_proj": 48}


def parameters(record: dict[str, Any]) -> int:
    return sum(
        SIZES[layer["name"].rpartition(".")[2]] * layer["rank"] for layer in record["layers"]
    )


@pytest.fixture
def record(searched: Path) -> Any:
    return read(searched / "ranks.json")


def test_ranks_json_has_the_keys_that_other_programs_read(record: dict[str, Any]) -> None:
    assert set(record) >= KEYS
    for layer in record["layers"]:
        assert set(layer) >= LAYER
        assert all(
            len(layer[key]) == K for key in ("alpha", "contribution", "singular_values", "share")
        )
        assert layer["singular_values"] == sorted(layer["singular_values"], reverse=True)
    assert all(set(point) >= POINT for point in record["rank_curve"] + record["budget_curve"])
    ranks = [layer["rank"] for layer in record["layers"]]
    assert record["mean_rank"] == pytest.approx(sum(ranks) / len(ranks))
    assert record["lora_parameters"] == parameters(record)
    assert record["k"] == K


def test_shares_add_up_to_the_measured_gain(record: dict[str, Any]) -> None:
    assert record["gain"] > 0.01
    for layer in record["layers"]:
        assert sum(layer["share"]) == pytest.approx(layer["layer_share"], abs=1e-9)
    assert sum(layer["layer_share"] for layer in record["layers"]) == pytest.approx(
        record["share_total"], abs=1e-9
    )
    summed = record["share_total"] + record["head_share"]
    assert summed == pytest.approx(record["fall"], abs=0.02 * abs(record["fall"]))


def test_the_curve_goes_from_few_ranks_to_all(record: dict[str, Any]) -> None:
    curve = record["rank_curve"]
    assert [point["rank"] for point in curve] == [1, 2, 4]
    assert curve[-1]["loss"] == pytest.approx(record["loss"], rel=1e-3)
    assert record["sufficient_rank"] in (1, 2, 4, None)
    assert [point["budget"] for point in record["budget_curve"]] == [0.5, 1]
    rank_1 = 2 * sum(SIZES.values())
    assert all(point["parameters"] <= point["budget"] * rank_1 for point in record["budget_curve"])


Again = Callable[..., dict[str, Any]]


@pytest.fixture
def again(chat: Chat, searched: Path, record: dict[str, Any], folder: Path) -> Again:
    """again(choose__budget=1): other ranks from the same search, which is not made again."""

    def choose_again(**more: object) -> Any:
        succeed(*chat(**{**LEARNING, **dict.fromkeys(CURVE), "measure__from": searched, **more}))
        found = read(folder / "ranks.json")
        assert [layer["alpha"] for layer in found["layers"]] == [
            layer["alpha"] for layer in record["layers"]
        ]
        return found

    return choose_again


@pytest.mark.parametrize("budget", [0.5, 1.5])
@pytest.mark.parametrize("rule", ["shares", "size"])
def test_a_budget_is_an_average_rank_that_is_not_exceeded(
    again: Again, rule: str, budget: float
) -> None:
    found = again(choose__rule=rule, choose__budget=budget)
    assert 0 < parameters(found) <= budget * 2 * sum(SIZES.values())
    if budget < 1:
        assert 0 in [layer["rank"] for layer in found["layers"]], "a layer may get rank 0"
    if rule == "size":
        kept = [s for layer in found["layers"] for s in layer["singular_values"][: layer["rank"]]]
        dropped = [
            s for layer in found["layers"] for s in layer["singular_values"][layer["rank"] :]
        ]
        assert sum(kept) / len(kept) > sum(dropped) / len(dropped)


def test_the_threshold_counts_components_whose_alpha_reaches_lambda(again: Again) -> None:
    found = again(choose__rule="threshold")
    assert found["lambda"] == 1 / K
    for layer in found["layers"]:
        assert sum(layer["alpha"]) == pytest.approx(1)
        assert layer["rank"] == sum(alpha >= 1 / K for alpha in layer["alpha"])


@pytest.mark.parametrize("constraint", ["sigmoid", "none"])
def test_alpha_under_the_other_constraints(tiny: Tiny, folder: Path, constraint: str) -> None:
    succeed(
        *tiny(
            "--stage",
            "search",
            "--search.constraint",
            constraint,
            "--search.selection_learning_rate",
            "0.5",
        )
    )
    found = read(folder / "ranks.json")
    assert found["constraint"] == constraint
    assert "gain" not in found, "measure.rows 0 measures nothing"
    values = [alpha for layer in found["layers"] for alpha in layer["alpha"]]
    assert len(set(values)) > 4, "each component has moved by itself"
    if constraint == "sigmoid":
        assert all(0 < alpha < 1 for alpha in values)
        assert any(abs(sum(layer["alpha"]) - 1) > 1e-3 for layer in found["layers"])


def test_the_search_of_another_run_needs_that_run(tiny: Tiny, tmp_path: Path) -> None:
    assert f"{tmp_path}/nowhere" in refused(*tiny("--measure.from", tmp_path / "nowhere"))


def test_another_rule_takes_a_search_of_the_paper_s_rule(
    tiny: Tiny, finished: Finished, folder: Path
) -> None:
    """search.check_every belongs to rule threshold, by which the source searched."""
    succeed(
        *tiny(
            "--stage",
            "search",
            "--measure.from",
            finished(),
            "--choose.rule",
            "size",
            "--choose.budget",
            "2",
        )
    )
    assert read(folder / "ranks.json")["rule"] == "size"
