"""One level as a subclass of Betty's problem: what is trained, by whose optimiser, and its gradients and losses."""

import math
from functools import partial
from typing import Any

import pytest
import torch

from autolora.problems.hypergradients import Drawn
from autolora.problems.level import BilevelProblem
from tests.helpers.bilevel_toys import Batch, copies, equal, lora_toy

pytestmark = pytest.mark.usefixtures("float64")


def test_only_the_trained_weights_move() -> None:
    toy = lora_toy(optimizer=torch.optim.AdamW)
    frozen = copies(toy.inner.module.frozen)
    toy.step()
    assert equal(frozen, copies(toy.inner.module.frozen))
    assert not equal(toy.before, toy.after)
    assert [p for p in toy.inner.module.parameters() if p.grad is not None] == []
    assert toy.inner.parameters() == toy.inner.trainable_parameters() == toy.inner.meta_trainable_parameters()


def test_the_given_optimizer_and_its_groups_are_kept() -> None:
    """Stock Betty rebuilds the optimiser from its defaults: AdamW refuses, and parameter groups are lost."""

    def two_rates(parameters: list[Any], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 10 * lr}], lr=lr)

    toy = lora_toy(optimizer=two_rates, rate=0.01)
    assert [g["lr"] for g in toy.inner.optimizer.param_groups] == [0.01, 0.1]


def test_the_given_scheduler_is_kept_and_moved_once_a_step() -> None:
    toy = lora_toy(scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=9), steps=3)
    assert toy.inner.scheduler.last_epoch == 3


def test_the_loss_is_kept_without_its_graph() -> None:
    toy = lora_toy()
    assert not toy.inner.last_loss.requires_grad
    assert toy.inner.last_loss > 0
    assert toy.outer.last_loss > 0


@pytest.mark.parametrize("parts", [(), (9, 7)])
def test_losses_again_are_those_of_the_step(parts: tuple[int, ...]) -> None:
    """Of both problems, each under its own dropout masks: of D_tr at W before the inner step, of D_val after it."""
    toy = lora_toy(dropout=0.5, parts=parts)
    with torch.no_grad():
        toy.outer.module.beta.copy_(toy.outer.beta_before)
    stream = torch.get_rng_state()
    assert torch.equal(sum(toy.outer.losses_again(), torch.tensor(0.0)), toy.outer.last_loss)
    with toy.inner.at(toy.inner.weights_before):
        assert torch.equal(sum(toy.inner.losses_again(), torch.tensor(0.0)), toy.inner.last_loss)
    assert torch.equal(stream, torch.get_rng_state())
    assert toy.inner.part_count == toy.outer.part_count == max(1, len(parts))


@pytest.mark.parametrize("parts", [(), (9, 7)])
def test_a_further_batch_has_rows_and_dropout_masks_of_its_own(parts: tuple[int, ...]) -> None:
    toy = lora_toy(dropout=0.5, parts=parts)
    stream = torch.get_rng_state()
    for problem in (toy.inner, toy.outer):
        first, second = problem.draw(), problem.draw()

        def loss(batch: Drawn, problem: BilevelProblem = problem) -> float:
            return sum(float(loss.detach()) for loss in problem.losses_of(batch))

        assert loss(first) == loss(first) != loss(second), "each keeps its masks, however often it is computed"
        assert not torch.equal(first.parts[0][0]["x"], second.parts[0][0]["x"])
        assert len(first.parts) == max(1, len(parts))
        again = [sum(float(part.detach()) for part in problem.losses_again()) for _ in range(2)]
        assert again[0] == again[1], "the step's batch stays"
    assert torch.equal(stream, torch.get_rng_state())


def test_further_batches_follow_from_seed_problem_step_and_number() -> None:
    """So they are the same in a search that resumes, and where a comparison has drawn others at an earlier step."""
    one, other = lora_toy(), lora_toy()
    other.inner.draw()
    for toy in (one, other):
        toy.step()
    rows = [toy.inner.draw().parts[0][0]["x"] for toy in (one, other)]
    assert torch.equal(*rows)
    others = [one.inner.draw(), one.outer.draw()]
    one.step()
    others.append(one.inner.draw())
    one.inner.seed = 1
    one.step()
    others.append(one.inner.draw())
    assert not any(torch.equal(rows[0], drawn.parts[0][0]["x"]) for drawn in others)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_a_step_whose_loss_or_gradient_is_not_finite_changes_nothing_and_counts_once(wrong: str, fused: bool) -> None:
    """With or without torch's fused step, which skips by itself."""
    toy = lora_toy("darts", optimizer=partial(torch.optim.AdamW, fused=fused), rate=0.01)
    right = toy.inner.training_step

    def spoiled(batch: Batch) -> torch.Tensor:
        if wrong == "loss":
            return right(batch) + math.inf
        weight = toy.inner.trained[0]
        return right(batch) + (weight - weight.detach()).square().sum().sqrt()  # 0; its derivative is 0 / 0

    toy.inner.training_step = spoiled
    beta = copies(toy.outer.trained)
    toy.step()
    assert bool(toy.inner.last_loss.isfinite()) is (wrong == "gradient")
    assert equal(toy.before, toy.after)
    assert equal(beta, copies(toy.outer.trained)), "the outer step after it would stand on nothing"
    assert [int(problem.skipped_steps) for problem in (toy.inner, toy.outer)] == [1, 1]
    assert [int(problem.own_skips) for problem in (toy.inner, toy.outer)] == [1, 0]
    toy.inner.training_step = right
    toy.step()
    assert all(weight.isfinite().all() and not torch.equal(weight, old)
               for weight, old in zip(toy.after, toy.before, strict=True))  # fmt: skip
    assert [int(problem.skipped_steps) for problem in (toy.inner, toy.outer)] == [1, 1]
    assert [int(problem.own_skips) for problem in (toy.inner, toy.outer)] == [1, 0]
