"""Steps that cannot be taken as they are: losses that are not finite, weights that share a gradient
or have none."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autolora.problems.batches import Batch
from tests.helpers.bilevel_toys import (
    METHODS,
    LogPenalty,
    Toy,
    equal,
    example,
    implicit,
    lora_toy,
    make_toy,
)

pytestmark = pytest.mark.usefixtures("float64")


@dataclass
class Spoiled:
    """Batches, of which one has no finite loss."""

    batches: Any
    at: int

    def __getitem__(self, number: int) -> Batch:
        batch: Batch = self.batches[number]
        if number == self.at:
            batch.parts[0][0]["x"].fill_(torch.nan)
        return batch


def spoiled(level: str, at: int, steps: int, method: Any, **options: Any) -> Toy:
    """A toy after some steps, of which one of this level (counted from 0) has a bad batch."""
    toy = lora_toy(method, steps=0, **options)
    problem = getattr(toy, level)
    problem.batches = Spoiled(problem.batches, at)
    for _ in range(steps):
        toy.step()
    return toy


@pytest.mark.parametrize("method", METHODS)
def test_after_a_bad_inner_batch_the_outer_step_has_no_implicit_term_and_counts_as_good(
    method: str,
) -> None:
    """W' is W, which does not depend on beta."""
    toy = spoiled(
        "inner", 1, 2, method, optimizer=torch.optim.AdamW, rate=0.01, gradient_clipping=1.0
    )
    assert (int(toy.inner.skipped_steps), int(toy.outer.skipped_steps)) == (1, 0)
    assert equal(toy.before, toy.after)
    assert not toy.outer.implicit.any()
    assert torch.equal(toy.outer.gradient_seen.flatten(), toy.outer.direct)
    toy.step()
    assert toy.outer.implicit.any() == (method != "first_order")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_unroll_goes_through_the_steps_that_were_taken(at: int) -> None:
    toy = spoiled("inner", at, 3, "unrolled", unroll_steps=3)
    assert int(toy.outer.skipped_steps) == 0
    found = toy.outer.implicit
    with torch.no_grad():
        toy.outer.module.beta.copy_(toy.outer.beta_before)
    v = toy.outer.gradient(toy.outer.batch, toy.inner.trained)
    toy.last_steps = [
        step for step in toy.last_steps if not step.batch.parts[0][0]["x"].isnan().any()
    ]
    assert len(toy.last_steps) == 2
    assert torch.allclose(found, implicit(toy, v), rtol=1e-12)
    assert found.any()


@pytest.mark.parametrize("level", ["inner", "outer"])
@pytest.mark.parametrize(("name", "at"), [("Soba", 0), ("Soba", 2), ("Penalty", 2)])
def test_what_a_users_class_carries_outlives_a_bad_batch(name: str, at: int, level: str) -> None:
    toy = spoiled(level, at, at, example(name))
    before = toy.outer.state
    toy.step()
    assert toy.outer.state is before
    toy.step()
    (carried,) = toy.outer.state.values()
    assert all(part.isfinite().all() for part in carried)


class Sum(nn.Module):
    """A line whose slope is the sum of two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (nn.Parameter(torch.ones(3)) for _ in range(2))

    def forward(self, batch: dict[str, Tensor], penalty: Tensor) -> Tensor:
        slope = self.one + self.other
        return (batch["x"] @ slope - batch["y"]).square().mean() + (penalty * slope.square()).sum()


def test_a_gradient_that_two_weights_share_is_clipped_once() -> None:
    torch.manual_seed(0)
    batch = {"x": torch.randn(12, 3), "y": torch.randn(12)}
    toy = make_toy(
        Sum(),
        LogPenalty(3),
        (lambda: dict(batch), lambda: dict(batch)),
        rate=0.1,
        gradient_clipping=0.5,
    )
    moved = torch.cat([before - after for before, after in zip(toy.before, toy.after, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.1 * 0.5, rel=1e-5)
    assert torch.equal(moved[:3], moved[3:])
