"""What every approximation of the registry owes: the right value, the stated cost, and no trace."""

import re
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from autolora.problems.bilevel import SelectionVariables
from tests.helpers.bilevel_toys import (
    METHODS,
    LoraNet,
    Toy,
    agree,
    copies,
    implicit,
    lora_toy,
    make_toy,
    random_vector,
    unrolled,
)
from tests.helpers.markdown import text_of
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.usefixtures("float64")

TERMS = 3
RADIUS = 1e-3
RATE = 0.1

# Largest allowed 1 - cosine and |norm ratio - 1| against the unrolled step, in float64 at radius
# 1e-3.
TOLERANCES = {
    "exact": 1e-9,  # no approximation, rounding only
    "unrolled": 1e-9,  # with one inner step it is `exact`
    "neumann": 1e-9,  # with no terms it is `exact`
    "darts": 1e-5,  # radius^2 = 1e-6 times third derivatives of a few units
    "forward_difference": 1e-2,  # radius = 1e-3 times third derivatives of a few units
}


def adamw(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr)


def after_steps(method: str, **options: Any) -> Toy:
    """A toy with dropout and AdamW, as in the program, after three steps: Adam has a history, no
    state is zero."""
    defaults = {
        "dropout": 0.1,
        "optimizer": adamw,
        "rate": 0.01,
        "steps": 3,
        "eta": 0.1,
        "radius": RADIUS,
    }
    return lora_toy(method, **{**defaults, "terms": TERMS, **options})


@pytest.mark.parametrize("eta", [0.02, "lr", "betty"])
@pytest.mark.parametrize("constraint", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize(("k", "dropout"), [(8, 0.0), (8, 0.1), (1, 0.1)])
@pytest.mark.parametrize("method", TOLERANCES)
def test_equals_the_unrolled_step(
    method: str, dropout: float, k: int, constraint: str, eta: Any
) -> None:
    toy = lora_toy(
        method,
        k=k,
        constraint=constraint,
        dropout=dropout,
        eta=eta,
        rate=RATE,
        radius=RADIUS,
        terms=0,
    )
    direct, expected = unrolled(toy, {"lr": RATE, "betty": 1.0}.get(eta, eta))
    assert torch.allclose(toy.outer.direct, direct, rtol=1e-10, atol=1e-14)
    if k == 1 and constraint == "softmax":
        # alpha = 1 whatever beta is: both gradients are zero, and a cosine would compare rounding
        # with rounding.
        assert toy.outer.implicit.abs().max() < 1e-11
        return
    agree(toy.outer.implicit, expected, TOLERANCES[method])
    agree(toy.outer.gradient_seen, direct + expected, TOLERANCES[method])


def test_first_order_leaves_the_implicit_term_out() -> None:
    toy = lora_toy("first_order", dropout=0.1)
    direct, left_out = unrolled(toy, 0.1)
    assert left_out.norm() > 0
    assert torch.equal(toy.outer.implicit, torch.zeros(16))
    assert torch.allclose(toy.outer.gradient_seen.flatten(), direct, rtol=1e-10, atol=1e-14)


def documented_passes(method: str) -> tuple[int, int]:
    """Forward and backward passes of an outer step, its inner step included, as
    docs/hypergradients.md states them."""
    page = text_of(ROOT / "docs" / "hypergradients.md")
    row = re.search(rf"^\| `{method}` \|.* \| (\d+) / (\d+)( \+ K)? \|", page, re.M)
    assert row is not None
    return int(row[1]), int(row[2]) + (TERMS if row[3] else 0)


@pytest.mark.parametrize("method", METHODS)
def test_passes_are_as_documented(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the calls of the net and of torch's two ways to differentiate, and by the program's own
    counter."""
    toy = after_steps(method)
    start = vars(toy.inner.shared.passes).copy()
    forwards = Mock(return_value=None)
    backwards = [Mock(wraps=torch.autograd.grad), Mock(wraps=torch.autograd.backward)]
    toy.inner.module.register_forward_hook(forwards)
    for name, counting in zip(("grad", "backward"), backwards, strict=True):
        monkeypatch.setattr(torch.autograd, name, counting)
    toy.step()
    toy.step()
    forward, backward = documented_passes(method)
    assert (forwards.call_count, sum(one.call_count for one in backwards)) == (
        2 * forward,
        2 * backward,
    )
    found = {name: count - start[name] for name, count in vars(toy.inner.shared.passes).items()}
    assert found == {"forward": 2 * forward, "backward": 2 * backward}


@pytest.mark.parametrize("method", METHODS)
def test_leaves_no_trace(method: str) -> None:
    toy = after_steps(method)
    vector = random_vector(toy)
    before = everything(toy)
    given = copies(vector)
    implicit(toy, vector)
    after = everything(toy)
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert all(torch.equal(v, g) for v, g in zip(vector, given, strict=True))
    assert [p for p in (*toy.inner.trained, *toy.outer.trained) if p.grad is not None] == []


def everything(toy: Toy) -> dict[str, Tensor]:
    """Every tensor that the next steps depend on."""
    found = {"random": torch.get_rng_state()}
    for problem in (toy.inner, toy.outer):
        found |= {
            f"{problem.name}.{name}": tensor.clone()
            for name, tensor in problem.module.state_dict().items()
        }
        for i, state in problem.optimizer.state_dict()["state"].items():
            found |= {
                f"{problem.name}.{i}.{name}": torch.as_tensor(value).clone()
                for name, value in state.items()
            }
        for i, group in enumerate(problem.optimizer.param_groups):
            found[f"{problem.name}.rate.{i}"] = torch.tensor(group["lr"])
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_vector_gives_zeros(method: str) -> None:
    toy = after_steps(method)
    assert torch.equal(
        implicit(toy, [torch.zeros_like(p) for p in toy.inner.trained]), torch.zeros(16)
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_that_the_loss_does_not_use(method: str) -> None:
    """A pooler beside a token head is such a weight; its part of everything is zero."""

    def toy(unused: bool) -> Toy:
        torch.manual_seed(0)
        net = LoraNet(4, 0.0)
        variables = SelectionVariables(2, 4)
        if unused:
            net.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
        batch = {"x": torch.randn(16, 5), "y": torch.randint(3, (16,))}
        options = {"optimizer": adamw, "steps": 3, "rate": 0.01, "eta": 0.1, "terms": 2}
        return make_toy(net, variables, (lambda: batch, lambda: batch), method, **options)

    with_it = toy(True)
    without = toy(False)
    assert torch.allclose(
        with_it.outer.gradient_seen, without.outer.gradient_seen, rtol=1e-9, atol=1e-14
    )


@pytest.mark.parametrize("method", sorted(TOLERANCES.keys() - {"unrolled"}))
def test_several_inner_steps_differentiate_the_last_one(method: str) -> None:
    toy = lora_toy(method, unroll_steps=3, steps=6, eta=0.1, radius=RADIUS, terms=0, dropout=0.1)
    assert toy.outer.count == 2
    agree(toy.outer.implicit, unrolled(toy, 0.1)[1], TOLERANCES[method])
