"""SAMA against Adam's step, unrolled."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.bilevel_toys import Toy, agree, cosine, implicit, lora_toy, random_vector, unrolled

pytestmark = pytest.mark.usefixtures("float64")

BETAS, ETA, STEPS = (0.9, 0.999), 0.1, 5


def adam_toy(**options: Any) -> Toy:
    # Betty's formula takes Adam's epsilon for nothing against the gradients; here it is.
    adam = partial(torch.optim.AdamW, betas=BETAS, eps=1e-14)
    return lora_toy("sama", **{"optimizer": adam, "rate": 0.01, "steps": STEPS, "radius": 1e-3, **options})


def adam_update(toy: Toy, corrected: bool) -> Any:
    """gradient -> Adam's update at rate 1, from the moments of before the last step."""
    states = [toy.inner.optimizer.state[p] for p in toy.inner.trained]
    one, two = BETAS
    gradients = toy.last_steps[-1].used
    first = [(s["exp_avg"] - (1 - one) * g) / one for s, g in zip(states, gradients, strict=True)]
    second = [(s["exp_avg_sq"] - (1 - two) * g**2) / two for s, g in zip(states, gradients, strict=True)]
    scale = (1 - two**STEPS) ** 0.5 / (1 - one**STEPS) if corrected else 1.0

    def update(gradient: list[Tensor]) -> list[Tensor]:
        return [
            scale * (one * m + (1 - one) * g) / (two * v + (1 - two) * g**2).sqrt()
            for m, v, g in zip(first, second, gradient, strict=True)
        ]

    return update


# Central difference at radius 1e-3: radius^2 times third derivatives, and v is divided by small gradients.
TOLERANCE = 1e-4


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("constraint", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("eta", [ETA, "lr", "betty"])
def test_equals_the_unrolled_adam_step_without_bias_correction(dropout: float, constraint: str, eta: Any) -> None:
    toy = adam_toy(dropout=dropout, constraint=constraint, eta=eta)
    expected = unrolled(toy, {"lr": 0.01, "betty": 1.0}.get(eta, eta), adam_update(toy, corrected=False))[1]
    agree(toy.outer.implicit, expected, TOLERANCE)


def test_the_update_that_is_unrolled_is_torchs_own() -> None:
    """Holds the oracle above against AdamW itself: W' - W is rate * update, bias correction included."""
    toy = adam_toy()
    decay = 0.01 * toy.inner.optimizer.param_groups[0]["weight_decay"]
    update = adam_update(toy, corrected=True)(toy.last_steps[-1].used)
    for before, after, u in zip(toy.before, toy.after, update, strict=True):
        assert torch.allclose(after, before * (1 - decay) - 0.01 * u, rtol=1e-9, atol=1e-12)


def test_the_true_adam_step_has_the_same_direction_and_is_shorter() -> None:
    toy = adam_toy(eta=ETA)
    true = unrolled(toy, ETA, adam_update(toy, corrected=True))[1]
    assert cosine(toy.outer.implicit, true) > 1 - TOLERANCE
    longer = (1 - BETAS[0] ** STEPS) / (1 - BETAS[1] ** STEPS) ** 0.5
    assert float(toy.outer.implicit.norm() / true.norm()) == pytest.approx(longer, rel=TOLERANCE)


def test_reads_the_clipped_gradient() -> None:
    """Adam's moments are of the clipped gradient; D must be too."""
    toy = adam_toy(eta=ETA, gradient_clipping=0.01)
    assert sum(g.square().sum() for g in toy.last_steps[-1].used) ** 0.5 == pytest.approx(0.01, rel=1e-3)


def test_is_zero_at_the_first_step_where_adam_has_no_history() -> None:
    toy = adam_toy(steps=1, eta=ETA)
    # D is a difference of equal numbers here: rounding is left, divided by the size of a gradient.
    assert toy.outer.implicit.norm() < 1e-10 * toy.outer.direct.norm()


def test_the_rate_of_the_next_step_plays_no_part() -> None:
    """Betty calls after the scheduler has moved on; a schedule that ends at rate zero must not zero the last term."""
    steady = adam_toy(eta=ETA)
    ending = adam_toy(
        eta=ETA,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < STEPS)),
    )
    assert ending.inner.optimizer.param_groups[0]["lr"] == 0.0
    assert torch.equal(ending.outer.implicit, steady.outer.implicit)


def test_with_sgd_it_is_darts() -> None:
    """An SGD step has D = 1."""
    sama, darts = lora_toy("sama", eta=ETA, rate=0.05), lora_toy("darts", eta=ETA, rate=0.05)
    vector = random_vector(sama)
    assert torch.allclose(implicit(sama, vector), implicit(darts, vector), rtol=1e-12)
