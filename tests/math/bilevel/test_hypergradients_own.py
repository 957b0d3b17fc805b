"""A user's approximation disturbs nothing and draws the same after a stop; examples/ compute what they say."""

from typing import Any

import pytest
import torch

from autolora.problems.hypergradients import Hypergradient
from tests.helpers.bilevel_toys import Toy, example, lora_toy, ridge_hessian, ridge_toy

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

    toy, plain = toy_of(made, steps=2), lora_toy("first_order", steps=2)
    assert not toy.outer.implicit.requires_grad
    assert all(torch.equal(one, other) for one, other in zip(toy.after, plain.after, strict=True))


def test_its_random_numbers_follow_from_the_seed_and_the_outer_step_alone() -> None:
    def drawn(stream: int, steps: int, seed: int) -> torch.Tensor:
        toy = toy_of(lambda beta, _: torch.randn_like(beta), steps - 1, seed)
        torch.manual_seed(stream)
        state = torch.get_rng_state()
        toy.step()
        assert torch.equal(torch.get_rng_state(), state), "the script's own numbers go on as if nothing had happened"
        return toy.outer.implicit

    assert torch.equal(drawn(1, 2, 3), drawn(2, 2, 3))
    assert not torch.equal(drawn(1, 2, 3), drawn(1, 3, 3))
    assert not torch.equal(drawn(1, 2, 3), drawn(1, 2, 4))


@pytest.mark.parametrize("made", [lambda beta, _: torch.zeros(1), lambda beta, _: beta.detach().T])
def test_a_term_of_another_shape_is_no_gradient(made: Any) -> None:
    with pytest.raises(ValueError, match="shape"):
        toy_of(made)


def at_solution(method: Hypergradient, steps: int = 1) -> Toy:
    """A ridge regression whose W stays at the solution of the inner problem, as its rate is 0."""
    return ridge_toy(method, solved=True, rate=0.0, steps=steps)


def exact_term(toy: Toy, damping: float = 0.0) -> torch.Tensor:
    """The implicit term of the implicit function theorem, with a damped Hessian."""
    train, held_out, w, penalty = toy.train, toy.held_out, toy.after[0], toy.outer.beta_before.exp()
    vector = held_out["x"].T @ (held_out["x"] @ w - held_out["y"]) / len(held_out["y"])
    vector = vector + held_out["share"] * penalty * w
    hessian = ridge_hessian(train, penalty) + damping * torch.eye(len(w))
    return -train["share"] * penalty * w * torch.linalg.solve(hessian, vector)


def test_many_solves_reach_the_damped_implicit_function_theorem() -> None:
    toy = at_solution(example("Soba", rate=0.3, eta=5.0, solves=500))
    assert torch.allclose(toy.outer.implicit, exact_term(toy, damping=0.2), rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "options"), [("Soba", {"rate": 0.3, "eta": 1e9}), ("Penalty", {"rate": 0.3, "weight": 1e4})]
)
def test_its_state_comes_closer_from_one_outer_step_to_the_next(name: str, options: dict[str, float]) -> None:
    def error(steps: int) -> float:
        toy = at_solution(example(name, **options), steps)
        expected = exact_term(toy)
        return float((toy.outer.implicit - expected).norm() / expected.norm())

    errors = [error(steps) for steps in (1, 4, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * errors[0]


class TestPenalty:
    def test_its_gradient_is_that_of_the_penalised_loss(self) -> None:
        """At the y that linear algebra gives, however large the weight."""
        toy, weight = at_solution(example("Penalty", rate=0.3, weight=2.0, steps=500)), 2.0
        train, held_out, w, penalty = toy.train, toy.held_out, toy.after[0], toy.outer.beta_before.exp()
        right = sum(
            part * batch["x"].T @ batch["y"] / len(batch["y"]) for part, batch in ((1, held_out), (weight, train))
        )
        y = torch.linalg.solve(ridge_hessian(held_out, penalty) + weight * ridge_hessian(train, penalty), right)
        expected = penalty / 2 * (held_out["share"] * y**2 + weight * train["share"] * (y**2 - w**2))
        assert torch.allclose(toy.outer.direct + toy.outer.implicit, expected, rtol=1e-8)


class TestStocBio:
    def test_on_equal_batches_it_is_neumanns_series(self) -> None:
        """sum_{j=0..K} eta (I - eta H)^j, by linear algebra."""
        toy = at_solution(example("StocBio", eta=0.2, terms=6))
        train, w, penalty = toy.train, toy.after[0], toy.outer.beta_before.exp()
        vector = torch.autograd.grad(toy.inner.module(toy.held_out, penalty), toy.inner.trained)[0]
        shrink = torch.eye(len(w)) - 0.2 * ridge_hessian(train, penalty)
        series = sum((torch.matrix_power(shrink, j) for j in range(7)), torch.zeros_like(shrink))
        expected = -train["share"] * penalty * w * (0.2 * series @ vector)
        assert torch.allclose(toy.outer.implicit, expected, rtol=1e-9)

    def test_each_product_draws_a_batch_of_its_own(self) -> None:
        toy, seen = lora_toy(example("StocBio")), []
        draw = toy.inner.draw
        toy.inner.draw = lambda: seen.append(draw()) or seen[-1]
        before = toy.inner.shared.passes.forward
        toy.step()
        assert len({float(batch.parts[0][0]["x"].sum()) for batch in seen}) == 4
        assert toy.inner.shared.passes.forward - before == 2 + 4
