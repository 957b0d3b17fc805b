"""The exact one-step unroll of AdamW with clipping, against torch.func through the whole step."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from problems.selection import SelectionVariables
from tests.helpers.bilevel_toys import Batch, LoraNet, Toy, agree, lora_toy, make_toy, unrolled

pytestmark = pytest.mark.usefixtures("float64")

BETAS, EPSILON, RATE, STEPS = (0.8, 0.99), 1e-3, 0.01, 5
EXACT = 1e-9


def adamw_toy(method: str = "exact_adamw", **options: Any) -> Toy:
    # An epsilon that counts beside the gradients, so that a formula without it would show.
    adamw = partial(torch.optim.AdamW, betas=BETAS, eps=EPSILON)
    return lora_toy(method, **{"optimizer": adamw, "rate": RATE, "steps": STEPS, **options})


def update_of(toy: Toy, clip: float = 0.0) -> Any:
    """gradient -> the update of AdamW at rate 1 after clipping, from the moments of before the last step."""
    states = [toy.inner.optimizer.state[p] for p in toy.inner.trained]
    one, two = BETAS
    used = [s["last_grad"] for s in states]
    first = [(s["exp_avg"] - (1 - one) * g) / one for s, g in zip(states, used, strict=True)]
    second = [(s["exp_avg_sq"] - (1 - two) * g**2) / two for s, g in zip(states, used, strict=True)]

    def update(gradient: list[Tensor]) -> list[Tensor]:
        if clip:
            norm = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()
            gradient = [g * (clip / (norm + 1e-6)).clamp(max=1.0) for g in gradient]
        steps = float(states[0]["step"])
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
    """Holds the oracle above against AdamW itself. `last_grad` is clipped already, which clipping again leaves."""
    toy = adamw_toy(gradient_clipping=clip)
    decay = RATE * toy.inner.optimizer.param_groups[0]["weight_decay"]
    update = update_of(toy)([toy.inner.optimizer.state[p]["last_grad"] for p in toy.inner.trained])
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


class Dropping(LoraNet):
    """Leaves out the LoRA of its second layer where a batch says so, as layerdrop does."""

    def forward(self, batch: Batch, gates: Tensor, mask: Tensor | None = None) -> Tensor:
        self._drops = bool(batch["drops"])
        return super().forward(batch, gates, mask)

    def _layer(self, i: int, x: Tensor, gates: Tensor) -> Tensor:
        return x @ self.frozen[i].T if i == 1 and self._drops else super()._layer(i, x, gates)


def test_a_weight_that_the_step_did_not_use_does_not_count_in_the_norm() -> None:
    """Its gradient of an earlier step was taken for that of this one, which clipping then seemed to have shortened."""
    torch.manual_seed(1)
    drops = iter([False] * (STEPS - 1) + [True])

    def draw(drop: bool = False) -> Batch:
        return {"x": torch.randn(16, 5), "y": torch.randint(3, (16,)), "drops": torch.tensor(drop)}

    adamw = partial(torch.optim.AdamW, betas=BETAS, eps=EPSILON)
    toy = make_toy(
        Dropping(4, 0.0), SelectionVariables(2, 4, "softmax"), (lambda: draw(next(drops)), draw), "exact_adamw",
        eta=0.1, rate=RATE, optimizer=adamw, steps=STEPS, gradient_clipping=1e-2,
    )  # fmt: skip
    used = [float(toy.inner.optimizer.state[weight]["step"]) for weight in toy.inner.trained]
    assert used == [STEPS, STEPS - 1] * 2
    agree(toy.outer.implicit, unrolled(toy, 0.1, update_of(toy, 1e-2))[1], EXACT)


def test_with_plain_gradient_descent_it_is_exact() -> None:
    toys = [lora_toy(method, dropout=0.1, eta=0.3) for method in ("exact_adamw", "exact")]
    assert torch.equal(toys[0].outer.implicit, toys[1].outer.implicit)
