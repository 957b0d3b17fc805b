"""The two approximations that know Adam's step, exact_adamw and sama, against torch.func through
the whole step."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.problems.bilevel import SelectionVariables
from tests.helpers.bilevel_toys import (
    LoraNet,
    Toy,
    agree,
    cosine,
    implicit,
    lora_toy,
    make_toy,
    random_vector,
    unrolled,
)

pytestmark = pytest.mark.usefixtures("float64")

RATE = 0.01
STEPS = 5
EXACT = 1e-9
# Central difference at radius 1e-3: radius^2 times third derivatives, and v is divided by small
# gradients.
OF_SAMA = 1e-4

# An epsilon that counts beside the gradients, so that a formula without it would show.
ADAMW = partial(torch.optim.AdamW, betas=(0.8, 0.99), eps=1e-3)
# Betty's formula takes Adam's epsilon for nothing against the gradients; here it is.
WITHOUT_EPSILON = partial(torch.optim.AdamW, betas=(0.9, 0.999), eps=1e-14)


def adamw_toy(**options: Any) -> Toy:
    return lora_toy("exact_adamw", **{"optimizer": ADAMW, "rate": RATE, "steps": STEPS, **options})


def sama_toy(**options: Any) -> Toy:
    given = {"optimizer": WITHOUT_EPSILON, "rate": RATE, "steps": STEPS, "radius": 1e-3, "eta": 0.1}
    return lora_toy("sama", **{**given, **options})


def update_of(toy: Toy, clip: float = 0.0, corrected: bool = True) -> Any:
    """gradient -> the update of AdamW at rate 1 after clipping, from the moments of before the last
    step; `corrected`: with Adam's bias correction."""
    states = [toy.inner.optimizer.state[p] for p in toy.inner.trained]
    group = toy.inner.optimizer.param_groups[0]
    (one, two) = group["betas"]
    epsilon = group["eps"]
    used = toy.last_steps[-1].used
    first = [(s["exp_avg"] - (1 - one) * g) / one for s, g in zip(states, used, strict=True)]
    second = [(s["exp_avg_sq"] - (1 - two) * g**2) / two for s, g in zip(states, used, strict=True)]
    steps = max(float(s["step"]) for s in states)
    of_first, of_second = (1 - one**steps, 1 - two**steps) if corrected else (1.0, 1.0)

    def update(gradient: list[Tensor]) -> list[Tensor]:
        if clip:
            norm = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()
            gradient = [g * (clip / (norm + 1e-6)).clamp(max=1.0) for g in gradient]
        return [
            (one * m + (1 - one) * g)
            / of_first
            / (((two * v + (1 - two) * g**2) / of_second).sqrt() + epsilon)
            for m, v, g in zip(first, second, gradient, strict=True)
        ]

    return update


@pytest.mark.parametrize(
    ("optimizer", "clip"), [(ADAMW, 0.0), (ADAMW, 0.2), (WITHOUT_EPSILON, 0.0)]
)
def test_the_update_that_is_unrolled_is_torchs_own(optimizer: Any, clip: float) -> None:
    """Holds the oracle against AdamW itself. `used` is clipped already, which clipping again
    leaves."""
    toy = adamw_toy(optimizer=optimizer, gradient_clipping=clip)
    decay = RATE * toy.inner.optimizer.param_groups[0]["weight_decay"]
    update = update_of(toy)(toy.last_steps[-1].used)
    for before, after, u in zip(toy.before, toy.after, update, strict=True):
        assert torch.allclose(after, before * (1 - decay) - RATE * u, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clip", [0.0, 1e-2, 0.2, 1e3])
@pytest.mark.parametrize("eta", [0.1, "lr", "betty"])
def test_exact_adamw_is_the_derivative_of_the_step_that_was_taken(clip: float, eta: Any) -> None:
    toy = adamw_toy(eta=eta, gradient_clipping=clip, dropout=0.1)
    expected = unrolled(toy, {"lr": RATE, "betty": 1.0}.get(eta, eta), update_of(toy, clip))[1]
    agree(toy.outer.implicit, expected, EXACT)


def test_clipping_changes_the_direction() -> None:
    """Else the tests of clipping would pass without it."""
    toy = adamw_toy(gradient_clipping=1e-2, eta=0.1)
    assert cosine(toy.outer.implicit, unrolled(toy, 0.1, update_of(toy))[1]) < 0.999


def test_exact_adamw_is_exact_at_the_first_step_and_finite_where_b_is_0() -> None:
    """A has no gradient there, and its second moment is 0, by whose root the derivative of AdamW's
    update divides."""
    toy = adamw_toy(steps=1, eta=1.0)
    agree(toy.outer.implicit, unrolled(toy, 1.0, update_of(toy))[1], EXACT)
    net = LoraNet(4, 0.0)
    for weight in net.b:
        torch.nn.init.zeros_(weight)
    batch = {"x": torch.randn(16, 5), "y": torch.randint(3, (16,))}
    options = {"eta": 0.1, "rate": RATE, "optimizer": ADAMW}
    toy = make_toy(
        net, SelectionVariables(2, 4), (lambda: batch, lambda: batch), "exact_adamw", **options
    )
    assert not any(toy.inner.optimizer.state[weight]["exp_avg_sq"].any() for weight in net.a)
    assert toy.outer.implicit.isfinite().all()
    assert toy.outer.implicit.any()


def test_with_plain_gradient_descent_exact_adamw_is_exact_and_sama_is_darts() -> None:
    """An SGD step has D = 1."""
    toys = [
        lora_toy(method, dropout=0.1, eta=0.3)
        for method in ("exact_adamw", "exact", "sama", "darts")
    ]
    assert torch.equal(toys[0].outer.implicit, toys[1].outer.implicit)
    vector = random_vector(toys[2])
    assert torch.allclose(implicit(toys[2], vector), implicit(toys[3], vector), rtol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("constraint", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("eta", [0.1, "lr", "betty"])
def test_sama_is_the_unrolled_adam_step_without_bias_correction(
    dropout: float, constraint: str, eta: Any
) -> None:
    toy = sama_toy(dropout=dropout, constraint=constraint, eta=eta)
    expected = unrolled(
        toy, {"lr": RATE, "betty": 1.0}.get(eta, eta), update_of(toy, corrected=False)
    )[1]
    agree(toy.outer.implicit, expected, OF_SAMA)


def test_sama_is_zero_at_the_first_step_where_adam_has_no_history() -> None:
    toy = sama_toy(steps=1)
    # D is a difference of equal numbers here: rounding is left, divided by the size of a gradient.
    assert toy.outer.implicit.norm() < 1e-10 * toy.outer.direct.norm()


def test_the_rate_of_the_next_step_plays_no_part() -> None:
    """Betty calls after the scheduler has moved on; a schedule that ends at rate zero must not zero
    the last term."""
    steady = sama_toy()
    ending = sama_toy(
        scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: float(step < STEPS)
        )
    )
    assert ending.inner.optimizer.param_groups[0]["lr"] == 0.0
    assert torch.equal(ending.outer.implicit, steady.outer.implicit)
