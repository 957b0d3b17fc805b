"""The two problems: what is trained by whose optimiser, what is remembered of a step, what is
skipped and reported."""

import math
from functools import partial
from typing import Any

import pytest
import torch

from autolora.problems.machine.processes import Processes
from tests.helpers import bilevel_toys
from tests.helpers.bilevel_toys import METHODS, copies, equal, lora_toy

pytestmark = pytest.mark.usefixtures("float64")


def test_only_the_trained_weights_move() -> None:
    toy = lora_toy(optimizer=torch.optim.AdamW)
    frozen = copies(toy.inner.module.frozen)
    toy.step()
    assert equal(frozen, copies(toy.inner.module.frozen))
    assert not equal(toy.before, toy.after)
    assert [p for p in toy.inner.module.parameters() if p.grad is not None] == []
    assert (
        toy.inner.parameters()
        == toy.inner.trainable_parameters()
        == toy.inner.meta_trainable_parameters()
    )


def test_the_given_optimizer_with_its_groups_and_the_given_scheduler_are_kept() -> None:
    """Stock Betty rebuilds the optimiser from its defaults: AdamW refuses, and parameter groups are
    lost."""

    def two_rates(parameters: list[Any], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 10 * lr}], lr=lr
        )

    halved = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 0.5**step)
    toy = lora_toy(optimizer=two_rates, rate=0.08, scheduler=halved, steps=3)
    assert [g["lr"] for g in toy.inner.optimizer.param_groups] == pytest.approx([0.01, 0.1]), (
        "moved once a step"
    )


@pytest.mark.parametrize("parts", [(), (9, 7)])
def test_the_loss_of_a_steps_batch_can_be_computed_again(parts: tuple[int, ...]) -> None:
    """Of both problems, each under its own dropout masks: of D_tr at W before the inner step, of
    D_val after it."""
    toy = lora_toy(dropout=0.5, parts=parts)
    with torch.no_grad():
        toy.outer.module.beta.copy_(toy.outer.beta_before)
    torch.manual_seed(99)  # a place in the stream that no batch has
    stream = torch.get_rng_state()
    again = toy.outer.loss_and_gradient(toy.outer.batch, toy.outer.trained)[0]
    assert torch.equal(again, toy.outer.last_loss)
    with toy.inner.at(toy.before):
        again = toy.inner.loss_and_gradient(toy.inner.batch, toy.inner.trained)[0]
    assert torch.equal(again, toy.inner.last_loss)
    assert not again.requires_grad
    assert torch.equal(stream, torch.get_rng_state())


def test_a_further_batch_has_its_own_rows_and_masks_by_step_and_number() -> None:
    toy = lora_toy(dropout=0.5)
    other = lora_toy(dropout=0.5)
    other.inner.draw()
    for one in (toy, other):
        one.step()
    drawn = [toy.inner.draw(), toy.inner.draw(), toy.outer.draw()]
    assert torch.equal(drawn[0].parts[0][0]["x"], other.inner.draw().parts[0][0]["x"])
    toy.step()
    drawn.append(toy.inner.draw())
    rows = [
        batch.parts[0][0]["x"].sum().item() for batch in (*drawn, toy.inner.batch, toy.outer.batch)
    ]
    assert len(set(rows)) == len(rows)
    assert len({batch.seed for batch in drawn}) == len(drawn)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_a_step_whose_loss_or_gradient_is_not_finite_changes_nothing_and_is_counted(
    wrong: str, fused: bool
) -> None:
    """With or without torch's fused step, which skips by itself."""
    toy = lora_toy("exact", optimizer=partial(torch.optim.AdamW, fused=fused), rate=0.01)
    right = toy.inner.training_step

    def spoiled(batch: bilevel_toys.Batch) -> torch.Tensor:
        if wrong == "loss":
            return right(batch) + math.inf
        weight = toy.inner.trained[0]
        # 0; its derivative is 0 / 0
        return right(batch) + (weight - weight.detach()).square().sum().sqrt()

    toy.inner.training_step = spoiled
    toy.step()
    assert bool(toy.inner.last_loss.isfinite()) is (wrong == "gradient")
    assert equal(toy.before, toy.after)
    assert int(toy.inner.skipped_steps) == 1
    toy.inner.training_step = right
    toy.step()
    assert all(
        weight.isfinite().all() and not torch.equal(weight, old)
        for weight, old in zip(toy.after, toy.before, strict=True)
    )
    assert int(toy.inner.skipped_steps) == 1


def test_an_implicit_term_that_is_not_finite_leaves_beta() -> None:
    toy = lora_toy("exact", eta=math.inf)
    assert int(toy.outer.skipped_steps) == toy.outer.count
    assert torch.equal(toy.outer.module.beta, toy.outer.beta_before)


@pytest.mark.parametrize("method", METHODS)
def test_the_inner_step_is_the_same_whatever_reads_it(method: str) -> None:
    """What a hypergradient wants to know of the inner step must not change the step."""
    step = {"dropout": 0.1, "optimizer": torch.optim.AdamW, "steps": 1}
    assert equal(lora_toy(method, **step).after, lora_toy("first_order", **step).after)


class Second(Processes):
    """The second of two processes, which hears from the first what it says itself."""

    def __init__(self) -> None:
        super().__init__(1, 2)

    def summed(self, tensors: Any) -> list[torch.Tensor]:
        return [2 * tensor for tensor in tensors]


@pytest.mark.parametrize("method", METHODS)
def test_all_that_a_step_computes_is_summed_over_the_processes(method: str) -> None:
    """Two processes with the same half of a mean: each gives half of every sum, also of each
    product."""
    options = {"steps": 0, "optimizer": torch.optim.AdamW, "rate": 0.01}
    alone = lora_toy(method, **options)
    second = lora_toy(method, **options)
    second.inner.shared.processes = Second()
    for level in (second.inner, second.outer):
        whole = level.training_step
        level.training_step = lambda batch, whole=whole: whole(batch) / 2
    for toy in (alone, second):
        toy.step()
        toy.step()
    for one, other in zip(alone.after, second.after, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(alone.outer.gradient_seen, second.outer.gradient_seen)
    torch.testing.assert_close(alone.outer.last_loss, second.outer.last_loss)


@pytest.mark.parametrize(
    ("direct", "implicit", "ratio", "angle"),
    [
        ([3.0, 4.0], [-6.0, -8.0], 2.0, -1.0),
        ([3.0, 4.0], [4.0, -3.0], 1.0, 0.0),
        ([3.0, 4.0], [0.0, 0.0], 0.0, 0.0),
        ([], [], None, None),  # before the first outer step
        ([0.0, 0.0], [3.0, 4.0], None, None),  # B = 0
        ([1e-30, 0.0], [1e-30, 1e-30], 2**0.5, 0.5**0.5),  # their product is no fp32 number
        # such as the sum of a Neumann series that diverges
        ([3.0, 4.0], [math.inf, 4.0], None, None),
    ],
)
def test_diagnostics(
    direct: list[float], implicit: list[float], ratio: float | None, angle: float | None
) -> None:
    outer = lora_toy(steps=0).outer
    outer.direct = torch.tensor(direct)
    outer.implicit = torch.tensor(implicit)
    found = outer.diagnostics()
    assert found["cosine"] == (None if angle is None else pytest.approx(angle))
    assert found["implicit_to_direct"] == (None if ratio is None else pytest.approx(ratio))
