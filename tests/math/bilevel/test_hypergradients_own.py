"""A user's approximation disturbs nothing and draws the same after a stop."""

from typing import Any

import pytest
import torch

from autolora.problems.hypergradients import Hypergradient
from tests.helpers.bilevel_toys import Toy, example, lora_toy

pytestmark = pytest.mark.usefixtures("float64")


class Given(Hypergradient):
    """Returns what a function makes of beta and W."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def term(self, state: Any, v: Any, inner: Any, outer: Any) -> Any:
        return [self.made(outer.trained[0], inner.weights[0])], state


def toy_of(made: Any, steps: int = 1, seed: int = 0) -> Toy:
    toy = lora_toy(Given(made), steps=0)
    toy.outer.seed = seed
    for _ in range(steps):
        toy.step()
    return toy


def test_its_term_keeps_no_graph_and_its_gradients_in_w_do_not_count() -> None:
    def made(beta: Any, weight: Any) -> Any:
        (weight.sum() * 1e3).backward()
        return 0 * beta

    toy = toy_of(made, steps=2)
    plain = lora_toy("first_order", steps=2)
    assert not toy.outer.implicit.requires_grad
    assert all(torch.equal(one, other) for one, other in zip(toy.after, plain.after, strict=True))


def test_its_random_numbers_follow_from_the_seed_and_the_outer_step_alone() -> None:
    def drawn(stream: int, steps: int, seed: int) -> torch.Tensor:
        toy = toy_of(lambda beta, _: torch.randn_like(beta), steps - 1, seed)
        torch.manual_seed(stream)
        state = torch.get_rng_state()
        toy.step()
        assert torch.equal(torch.get_rng_state(), state), (
            "the script's own numbers go on as if nothing had happened"
        )
        return toy.outer.implicit

    assert torch.equal(drawn(1, 2, 3), drawn(2, 2, 3))
    assert not torch.equal(drawn(1, 2, 3), drawn(1, 3, 3))
    assert not torch.equal(drawn(1, 2, 3), drawn(1, 2, 4))


@pytest.mark.parametrize("made", [lambda beta, _: torch.zeros(1), lambda beta, _: beta.detach().T])
def test_a_term_of_another_shape_is_no_gradient(made: Any) -> None:
    with pytest.raises(ValueError, match="shape"):
        toy_of(made)


def test_each_product_of_stocbio_draws_a_batch_of_its_own() -> None:
    toy = lora_toy(example("StocBio"))
    seen = []
    draw = toy.inner.draw
    toy.inner.draw = lambda: seen.append(draw()) or seen[-1]
    before = toy.inner.shared.passes.forward
    toy.step()
    assert len({float(batch.parts[0][0]["x"].sum()) for batch in seen}) == 4
    assert toy.inner.shared.passes.forward - before == 2 + 4
