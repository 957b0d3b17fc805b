"""The exact one-step unroll of AdamW with clipping, against torch.func through the whole step."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.problems.bilevel import SelectionVariables
from tests.helpers.bilevel_toys import Batch, LoraNet, Toy, agree, lora_toy, make_toy, unrolled

pytestmark = pytest.mark.usefixtures("float64")

BETAS, EPSILON, RATE, STEPS = (0.8, 0.99), 1e-3, 0.01, 5
EXACT = 1e-9


# An epsilon that counts beside the gradients, so that a formula without it would show.
ADAMW = partial(torch.optim.AdamW, betas=BETAS, eps=EPSILON)


def adamw_toy(method: str = "exact_adamw", **options: Any) -> Toy:
    return lora_toy(method, **{"optimizer": ADAMW, "rate": RATE, "steps": STEPS, **options})


def update_of(toy: Toy, clip: float = 0.0) -> Any:
    """gradient -> the update of AdamW at rate 1 after clipping, from the moments of before the last step."""
    states = [toy.inner.optimizer.state[p] for p in toy.inner.trained]
    one, two = BETAS
    used = toy.last_steps[-1].used
    first = [(s["exp_avg"] - (1 - one) * g) / one for s, g in zip(states, used, strict=True)]
    second = [(s["exp_avg_sq"] - (1 - two) * g**2) / two for s, g in zip(states, used, strict=True)]
    steps = max(float(s["step"]) for s in states)

    def update(gradient: list[Tensor]) -> list[Tensor]:
        if clip:
            norm = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()
            gradient = [g * (clip / (norm + 1e-6)).clamp(max=1.0) for g in gradient]
        return [
            (one * m + (1 - one) * g) / (1 - one**steps)
            / (((two * v + (1 - two) * g**2) / (1 - two**steps)).sqrt() + EPSILON)
            for m, v, g in zip(first, second, gradient, strict=True)
        ]  # fmt: skip

    return update


@pytest.mark.parametrize("clip", [0.0, 1e-2, 0.2, 1e3])
@pytest.mark.parametrize("eta", [0.1, "lr", "betty"])
def test_it_is_the_derivative_of_the_step_that_was_taken(clip: float, eta: Any) -> None:
    toy = adamw_toy(eta=eta, gradient_clipping=clip, dropout=0.1)
    expected = unrolled(toy, {"lr": RATE, "betty": 1.0}.get(eta, eta), update_of(toy, clip))[1]
    agree(toy.outer.implicit, expected, EXACT)


@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_the_update_that_is_unrolled_is_torchs_own(clip: float) -> None:
    """Holds the oracle above against AdamW itself. `used` is clipped already, which clipping again leaves."""
    toy = adamw_toy(gradient_clipping=clip)
    decay = RATE * toy.inner.optimizer.param_groups[0]["weight_decay"]
    update = update_of(toy)(toy.last_steps[-1].used)
    for before, after, u in zip(toy.before, toy.after, update, strict=True):
        assert torch.allclose(after, before * (1 - decay) - RATE * u, rtol=1e-9, atol=1e-12)


def test_clipping_changes_the_direction() -> None:
    """Else the tests of clipping would pass without it."""
    toy = adamw_toy(gradient_clipping=1e-2, eta=0.1)
    without = unrolled(toy, 0.1, update_of(toy))[1]
    cosine = torch.nn.functional.cosine_similarity(toy.outer.implicit, without, dim=0)
    assert float(cosine) < 0.999


def test_at_the_first_step_and_where_a_weight_has_no_gradient_it_is_finite() -> None:
    toy = adamw_toy(steps=1, eta=1.0)
    agree(toy.outer.implicit, unrolled(toy, 1.0, update_of(toy))[1], EXACT)
    with torch.no_grad():
        for weight in toy.inner.module.b:
            weight.zero_()  # then A has no gradient
    toy.step()
    assert toy.outer.implicit.isfinite().all()


def test_it_is_finite_at_the_first_step_of_a_search_where_b_is_0() -> None:
    """A has no gradient there, and its second moment is 0, by whose root the derivative of AdamW's update divides."""
    net = LoraNet(4, 0.0)
    with torch.no_grad():
        for weight in net.b:
            weight.zero_()

    def draw() -> Batch:
        return {"x": torch.randn(16, 5), "y": torch.randint(3, (16,))}

    toy = make_toy(
        net, SelectionVariables(2, 4, "softmax"), (draw, draw), "exact_adamw", eta=0.1, rate=RATE, optimizer=ADAMW
    )
    assert not any(toy.inner.optimizer.state[weight]["exp_avg_sq"].any() for weight in net.a)
    assert toy.outer.implicit.isfinite().all()
    assert toy.outer.implicit.any()


def test_with_plain_gradient_descent_it_is_exact() -> None:
    toys = [lora_toy(method, dropout=0.1, eta=0.3) for method in ("exact_adamw", "exact")]
    assert torch.equal(toys[0].outer.implicit, toys[1].outer.implicit)
