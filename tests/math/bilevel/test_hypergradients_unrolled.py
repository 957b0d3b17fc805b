"""The unroll of several inner steps, against torch.func through all of them."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad

from autolora.problems import batches as of_steps
from tests.helpers.bilevel_toys import Batch, Toy, agree, lora_toy

pytestmark = pytest.mark.usefixtures("float64")

RATES = [0.05, 0.1, 0.15, 0.1]


def watched(count: int, **options: Any) -> tuple[Toy, list[list[Tensor]], list[of_steps.Batch]]:
    """A toy after one outer step with `count` inner steps, W before each of these, and their
    batches."""
    toy = lora_toy("unrolled", unroll_steps=count, steps=0, **options)
    weights = []
    batches = []
    for _ in range(count):
        toy.step()
        weights.append(toy.before)
        batches.append(toy.inner.batch)
    return toy, weights, batches


def whole(batch: of_steps.Batch) -> Batch:
    """The rows of all parts."""
    return {key: torch.cat([part[key] for part, _ in batch.parts]) for key in batch.parts[0][0]}


def through_all_steps(
    toy: Toy, before: list[list[Tensor]], batches: list[of_steps.Batch], etas: list[float]
) -> Tensor:
    """The gradient of L_val through W_n(beta). Each W_t(beta) has the value that it had, and the
    derivative of W_(t-1)(beta) - eta_t dL_t/dW; if the steps were plain gradient descent of these
    rates, it is that descent."""
    net = toy.inner.module
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    beta = toy.outer.beta_before

    def loss(weights: list[Tensor], beta: Tensor, batch: Batch, mask: Tensor) -> Tensor:
        gates = functional_call(toy.outer.module, {"beta": beta}, ())
        return functional_call(net, dict(zip(names, weights, strict=True)), (batch, gates, mask))

    # Without dropout where a batch has several parts.
    all_batches = [*batches, toy.outer.batch]
    values = [*before, toy.after]
    masks = [
        net.mask(batch) if len(batch.parts) == 1 else torch.tensor(1.0) for batch in all_batches
    ]

    def lost(beta: Tensor) -> Tensor:
        weights = values[0]
        for number, eta in enumerate(etas):
            slope = partial(grad(loss), batch=whole(batches[number]), mask=masks[number])
            there = slope(weights, beta)
            moved = [w - eta * g for w, g in zip(weights, there, strict=True)]
            # The value of the step that was taken, whatever took it.
            weights = [m + (v - m).detach() for m, v in zip(moved, values[number + 1], strict=True)]
        return loss(weights, beta, whole(toy.outer.batch), masks[-1])

    at = beta.clone().requires_grad_()
    (found,) = torch.autograd.grad(lost(at), at)
    return found.flatten()


@pytest.mark.parametrize("parts", [(), (9, 7)])
@pytest.mark.parametrize(("count", "eta"), [(1, 0.3), (2, "lr"), (4, "lr"), (3, "betty")])
def test_it_is_the_gradient_through_all_inner_steps(
    count: int, eta: Any, parts: tuple[int, ...]
) -> None:
    """Under a learning rate that changes from step to step, dropout, and batches in parts."""
    schedule = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: RATES[step % 4])
    found = watched(
        count, rate=1.0, scheduler=schedule, eta=eta, dropout=0.0 if parts else 0.1, parts=parts
    )
    etas = {"lr": RATES[:count], "betty": [1.0] * count}.get(eta, [eta] * count)
    agree(found[0].outer.gradient_seen, through_all_steps(*found, etas), 1e-9)


def test_after_steps_of_adam_it_is_that_of_descent_at_their_weights() -> None:
    found = watched(3, optimizer=torch.optim.AdamW, rate=0.01, eta=0.2, dropout=0.1)
    agree(found[0].outer.gradient_seen, through_all_steps(*found, [0.2] * 3), 1e-9)


def test_the_steps_since_the_last_outer_step_are_kept_and_then_forgotten() -> None:
    toy = lora_toy("unrolled", unroll_steps=3, steps=5)
    assert len(toy.inner.steps) == 2
    toy.step()
    assert (len(toy.last_steps), toy.inner.steps) == (3, [])
    assert len(lora_toy("exact", unroll_steps=3, steps=2).inner.steps) == 1
