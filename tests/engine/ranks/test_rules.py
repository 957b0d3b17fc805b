"""alpha and contribution -> kept components: the paper's thresholds and a parameter budget."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import UserError
from configs.requests import Request
from configs.schema import RunConfig, SearchConfig
from engine import ranks
from engine.ranks.rules import RankRule, kept_components, kept_within, largest_components, rule_of, thresholds
from engine.run.interrupt import StopRequest
from engine.stages import run_stages
from problems.selection import SelectionVariables


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


def test_a_budget_goes_to_the_largest_contributions_of_all_layers() -> None:
    contribution = torch.tensor([[5.0, 1.0], [0.1, 0.2], [4.0, 3.0]])
    kept = kept_within(contribution, [10, 10, 10], 30)
    assert kept.tolist() == [[True, False], [False, False], [True, True]]  # the second layer is dropped


def test_a_component_without_room_is_passed_over() -> None:
    kept = kept_within(torch.tensor([[5.0], [4.0], [3.0]]), [10, 30, 10], 25)
    assert kept.flatten().tolist() == [True, False, True]


@given(
    st.lists(st.lists(st.floats(0, 10, width=32), min_size=3, max_size=3), min_size=2, max_size=4),
    st.integers(1, 200),
)
def test_a_budget_is_never_exceeded_and_room_for_one_more_is_never_left(rows: list[list[float]], budget: int) -> None:
    contribution = torch.tensor(rows)
    sizes = [7, 11, 13, 5][: len(rows)]
    kept = kept_within(contribution, sizes, budget)
    spent = int((kept.sum(dim=1) * torch.tensor(sizes)).sum())
    assert spent <= budget
    dropped = [size for size, row in zip(sizes, kept, strict=True) if not row.all()]
    assert all(size > budget - spent for size in dropped)
    for values, row in zip(contribution, kept, strict=True):  # what stage 2 takes up again is what was kept
        assert torch.equal(largest_components(values, int(row.sum())), row)


def test_a_budget_is_the_parameters_of_uniform_ranks() -> None:
    sizes = {"a": 10, "b": 30}
    assert rule_of(SearchConfig(rule="budget", budget=2.5), sizes).budget == 100
    assert rule_of(SearchConfig(), sizes).budget is None
    with pytest.raises(UserError, match=r"--search.budget: 0.5 is not allowed .*; allowed: 0.75 or more"):
        rule_of(SearchConfig(rule="budget", budget=0.5), sizes)


def test_a_budget_rule_counts_what_it_keeps() -> None:
    rule = RankRule("softmax", {"a": 10, "b": 10}, budget=20)
    alpha = torch.tensor([[0.6, 0.4], [0.5, 0.5]])
    assert rule.kept(alpha, torch.tensor([[3.0, 2.0], [1.0, 0.5]])).tolist() == [[True, True], [False, False]]
    by_threshold = dataclasses.replace(rule, budget=None)
    assert by_threshold.kept(alpha, torch.zeros(2, 2)).tolist() == [[True, False], [True, True]]


@pytest.mark.trains
@pytest.mark.parametrize("init", ["scratch", "search"])
def test_a_run_by_budget_spends_it_and_retrains_without_the_dropped_layers(
    tiny_config: Callable[..., RunConfig], init: str
) -> None:
    config = tiny_config("--search.rule", "budget", "--search.budget", "1", "--retrain.init", init)
    folder = run_stages(Request(config, "all", False, "test"), StopRequest())
    record = ranks.load(folder.ranks)
    assert record.rule == "budget"
    assert sum(layer.rank for layer in record.layers) == 4  # four layers of one shape, one each on average


def test_a_budget_above_k_is_refused(tiny_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(UserError, match=r"--search\.budget: 9 is not allowed with --lora\.k 4"):
        tiny_config("--search.rule", "budget", "--search.budget", "9")
