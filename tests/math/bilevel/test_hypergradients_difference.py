"""Finite differences: exact where the loss is quadratic, of the stated order elsewhere, and deaf to dropout."""

from contextlib import AbstractContextManager

import pytest
import torch
from betty.hypergradient import jvp_fn_mapping
from torch import Tensor

from tests.helpers.bilevel_toys import Toy, implicit, lora_toy, random_vector, ridge_toy, unrolled

pytestmark = pytest.mark.usefixtures("float64")

ETA, RADIUS = 0.3, 0.01


def ridge_terms(toy: Toy) -> tuple[Tensor, Tensor, Tensor]:
    """exp(beta), w before the step, and v = dL_val/dw after it, of a ridge toy."""
    penalty, (before,), (after,) = toy.outer.beta_before.exp(), toy.before, toy.after
    x, y = toy.held_out["x"], toy.held_out["y"]
    return penalty, before, x.T @ (x @ after - y) / len(y) + 0.1 * penalty * after


def test_central_difference_is_exact_on_a_quadratic() -> None:
    toy = ridge_toy("darts", eta=ETA, radius=RADIUS)
    penalty, before, v = ridge_terms(toy)
    assert torch.allclose(toy.outer.implicit, -ETA * penalty * before * v, rtol=1e-10)


def test_forward_difference_is_off_by_half_the_curvature() -> None:
    toy = ridge_toy("forward_difference", eta=ETA, radius=RADIUS)
    penalty, before, v = ridge_terms(toy)
    off = penalty * v.square() / 2 * RADIUS / v.norm()
    assert torch.allclose(toy.outer.implicit, -ETA * (penalty * before * v + off), rtol=1e-10)


@pytest.mark.parametrize(("method", "order"), [("darts", 2), ("forward_difference", 1)])
def test_error_falls_with_the_radius(method: str, order: int) -> None:
    def error(radius: float) -> float:
        toy = lora_toy(method, eta=1.0, radius=radius)
        return float((toy.outer.implicit - unrolled(toy, 1.0)[1]).norm())

    assert error(0.04) / error(0.02) == pytest.approx(2**order, rel=0.1)


def test_the_radius_is_the_length_of_the_move() -> None:
    toy = lora_toy("darts", radius=0.05)
    moves = []
    at = toy.inner.at

    def note(weights: list[Tensor]) -> AbstractContextManager[None]:
        moved = [a - b for a, b in zip(weights, toy.before, strict=True)]
        moves.append(torch.nn.utils.get_total_norm(moved))
        return at(weights)

    toy.inner.at = note
    implicit(toy, [1e6 * v for v in random_vector(toy)])
    assert [float(m) for m in moves] == pytest.approx([0.05, 0.05])


@pytest.mark.parametrize("method", ["darts", "forward_difference", "sama"])
def test_is_linear_in_the_vector(method: str) -> None:
    """The step is scaled to the radius, so that the size of v cancels."""
    toy = lora_toy(method)
    vector = random_vector(toy)
    small = implicit(toy, [1e-9 * v for v in vector])
    assert torch.allclose(1e9 * small, implicit(toy, vector), rtol=1e-6)


def test_stock_darts_draws_new_masks_for_each_side() -> None:
    """The trap that the test above looks for: Betty's own `darts` on the same problem is mostly dropout noise."""
    toy = lora_toy("darts", dropout=0.1)
    vector = random_vector(toy)
    ours = implicit(toy, vector)
    toy.inner.cur_batch = toy.train
    stock = [jvp_fn_mapping["darts"](vector, toy.inner, toy.outer, False)[0].flatten() for _ in range(8)]
    assert not torch.equal(stock[0], stock[1])
    assert torch.stack(stock).std(dim=0).norm() > 3 * ours.norm()
