"""eta = 0."""

import pytest
import torch

from tests.helpers.bilevel_toys import lora_toy, unrolled

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("eta", [0.5, "lr", "betty"])
def test_the_outer_gradient_is_the_direct_one(eta: float | str) -> None:
    toy = lora_toy("first_order", eta=eta, dropout=0.1)
    direct, implicit = unrolled(toy, 0.1)
    assert implicit.norm() > 0  # there was something to leave out
    assert torch.equal(toy.outer.implicit, torch.zeros(16))
    assert torch.allclose(toy.outer.gradient_seen.flatten(), direct, rtol=1e-10, atol=1e-14)


def test_keeps_nothing_of_the_inner_step() -> None:
    assert lora_toy("first_order").last_steps == []
