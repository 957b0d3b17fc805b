"""The head between the one that was trained alone and the searched one."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from autolora.engine.measure.gated import Heads, heads_of
from tests.helpers.branches import Branches

ALONE = {"out.1.weight": torch.full((3, 5), 2.0)}


def model_with_head() -> tuple[Any, nn.Parameter]:
    """A model whose second output layer is trained whole, all of whose weights are 6, and these weights."""
    base: Any = Branches(2)
    model: Any = get_peft_model(base, LoraConfig(r=2, target_modules=["branch.0"], modules_to_save=["out.1"]))
    weight = base.out[1].modules_to_save["default"].weight
    with torch.no_grad():
        weight.fill_(6.0)
    return model, weight


@pytest.mark.parametrize(("t", "expected"), [(0.0, 2.0), (0.25, 3.0), (1.0, 6.0)])
def test_at_t_the_head_lies_between_its_ends_and_afterwards_it_is_the_searched_one(t: float, expected: float) -> None:
    model, weight = model_with_head()
    heads = heads_of(model, ALONE)
    assert heads.parameters == [weight]
    with heads.at(t):
        assert torch.equal(weight, torch.full((3, 5), expected))
    assert torch.equal(weight, torch.full((3, 5), 6.0))


def test_an_error_in_between_leaves_the_searched_head() -> None:
    model, weight = model_with_head()
    with pytest.raises(KeyboardInterrupt), heads_of(model, ALONE).at(0.5):
        raise KeyboardInterrupt
    assert torch.equal(weight, torch.full((3, 5), 6.0))


def test_the_slope_is_that_of_a_loss_along_the_way() -> None:
    """The sum of the squares: its derivative with respect to t is sum(2 w (6 - 2)), and w is 4 in the middle."""
    model, weight = model_with_head()
    heads = heads_of(model, ALONE)
    with heads.at(0.5):
        gradients = torch.autograd.grad(weight.square().sum(), heads.parameters)
    assert heads.slope(gradients) == pytest.approx(15 * 2 * 4 * 4)
    assert heads.slope([None]) == 0, "a loss that does not depend on the head"


def test_without_a_head_nothing_moves() -> None:
    model, weight = model_with_head()
    assert heads_of(model, {}) == Heads()
    with Heads().at(0.0):
        assert torch.equal(weight, torch.full((3, 5), 6.0))


def test_a_head_that_the_searched_model_lacks_is_an_error() -> None:
    model, _ = model_with_head()
    with pytest.raises(ValueError, match=r"the searched model lacks out\.7\.weight"):
        heads_of(model, {"out.7.weight": torch.zeros(1)})
