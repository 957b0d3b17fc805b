"""The same base model has one digest, whatever its dtype and its head; other weights have another."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from autolora.problems.models.digest import digest_of_weights


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"block": nn.Linear(40, 50), "norm": nn.LayerNorm(50), "classifier": nn.Linear(50, 2)})


def test_a_copy_and_another_dtype_have_the_same_digest(model: nn.Module) -> None:
    found = digest_of_weights(model)
    assert digest_of_weights(copy.deepcopy(model)) == found
    assert digest_of_weights(copy.deepcopy(model).bfloat16()) == found


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "trained again": lambda block: [p.data.mul_(1.05) for p in block.parameters()],
    "the last row": lambda block: block.weight.data[-1].add_(1),
    "the first number": lambda block: block.weight.data[0, 0].add_(1),
    "the bias": lambda block: block.bias.data.add_(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_weights_have_another_digest(model: nn.Module, change: str) -> None:
    found = digest_of_weights(model, ["classifier"])
    CHANGES[change](model["block"])  # type: ignore[index]
    assert digest_of_weights(model, ["classifier"]) != found


def test_another_shape_has_another_digest() -> None:
    one, other = nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)
    other.weight.data = one.weight.data.reshape(4, 2)
    assert digest_of_weights(one) != digest_of_weights(other)


def test_a_new_head_is_left_out(model: nn.Module) -> None:
    found = digest_of_weights(model, ["classifier"])
    model["classifier"].reset_parameters()  # type: ignore[index]
    assert digest_of_weights(model, ["classifier"]) == found
    assert digest_of_weights(model) != found
