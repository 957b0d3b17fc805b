"""Components that are kept: by the paper's thresholds, and within a budget by worth."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autolora.engine.cut.budget import parameters_of
from autolora.engine.ranks.threshold import kept_components, thresholds
from autolora.problems.bilevel import SelectionVariables


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
    assert kept_components(alpha.numpy(), "softmax").tolist() == kept_components(alpha, "softmax").tolist()
    free = torch.tensor([[2.0, 1.0, -3.0, 4.0], [-1.0, -2.0, -3.0, -2.0]])
    assert thresholds(free, "none").flatten().tolist() == [1.0, -2.0]
    assert kept_components(free, "none").tolist() == [[True, True, False, True], [True, True, False, True]]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=16))
def test_softmax_and_none_keep_one_component_at_least(beta: list[float]) -> None:
    values = torch.tensor([beta])
    assert kept_components(values.softmax(dim=1), "softmax").any()
    assert kept_components(values, "none").any()


def test_a_budget_is_the_parameters_of_uniform_ranks() -> None:
    assert parameters_of(2.5, [10, 30]) == 100
    # As floats 28.999999999999996 and 1.7 x 3 = 5.1.
    assert parameters_of(0.29, [1] * 100) == 29
    assert parameters_of(1.7, [1, 2]) == 5
