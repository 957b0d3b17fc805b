"""Finite differences: of the stated order, of the given radius, and deaf to dropout."""

from contextlib import AbstractContextManager

import pytest
import torch
from betty.hypergradient import jvp_fn_mapping
from torch import Tensor

from tests.helpers.bilevel_toys import agree, copies, implicit, lora_toy, random_vector, unrolled

pytestmark = pytest.mark.usefixtures("float64")


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


def test_darts_is_bettys_own_at_the_same_weights_but_under_one_mask_on_both_sides() -> None:
    """Betty's draws new masks for each side, and with dropout its difference is mostly noise."""

    def both(dropout: float) -> tuple[Tensor, Tensor]:
        toy = lora_toy("darts", dropout=dropout, radius=0.01)  # Betty's radius
        vector = random_vector(toy)
        toy.last_steps[-1].weights = copies(toy.inner.trained)  # W', where Betty evaluates
        toy.inner.cur_batch = toy.train
        stock = [
            jvp_fn_mapping["darts"](vector, toy.inner, toy.outer, False)[0].flatten()
            for _ in range(8)
        ]
        return implicit(toy, vector), torch.stack(stock)

    ours, bettys = both(0.0)
    agree(ours, bettys[0], 1e-9)
    ours, noisy = both(0.1)
    assert noisy.std(dim=0).norm() > 3 * ours.norm()
