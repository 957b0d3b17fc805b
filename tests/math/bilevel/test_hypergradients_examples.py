"""The approximations in examples/, by the interface of a user's own: they compute what they say."""

import pytest
import torch

from autolora.problems.hypergradients import Hypergradient
from tests.helpers.bilevel_toys import Toy, example, lora_toy, ridge_hessian, ridge_toy

pytestmark = pytest.mark.usefixtures("float64")


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

    def test_it_takes_gradients_alone(self) -> None:
        """So it runs with any attention kernel: two passes for the steps themselves, one at W', two at each y."""
        passes = at_solution(example("Penalty")).inner.shared.passes
        assert (passes.forward, passes.backward) == (2 + 1 + 2 * 2, 2 + 1 + 2 * 2)


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
