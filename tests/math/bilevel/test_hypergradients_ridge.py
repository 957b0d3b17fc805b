"""Closed forms of ridge regression: what linear algebra says of our approximations and of those of
examples/."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.problems.hypergradients import Hypergradient
from tests.helpers.bilevel_toys import Toy, example, ridge_hessian, ridge_solution, ridge_toy

pytestmark = pytest.mark.usefixtures("float64")

ETA = 0.3
RADIUS = 0.01


def v_of(toy: Toy) -> Tensor:
    """v = dL_val/dw at w'."""
    held_out = toy.held_out
    (after,) = toy.after
    fit = held_out["x"].T @ (held_out["x"] @ after - held_out["y"]) / len(held_out["y"])
    return fit + held_out["share"] * toy.outer.beta_before.exp() * after


def implicit_of(toy: Toy, inverse: Callable[[Tensor], Tensor]) -> Tensor:
    """-[d^2 L_tr / d beta dw] M v = -share exp(beta) w * (M v), M by `inverse` of the Hessian."""
    train = toy.train
    penalty = toy.outer.beta_before.exp()
    (before,) = toy.before
    return -train["share"] * penalty * before * (inverse(ridge_hessian(train, penalty)) @ v_of(toy))


def series(eta: float, terms: int) -> Callable[[Tensor], Tensor]:
    """Hessian H -> eta sum_{j=0..terms} (I - eta H)^j."""

    def of(hessian: Tensor) -> Tensor:
        rest = torch.eye(len(hessian)) - eta * hessian
        return eta * sum(torch.linalg.matrix_power(rest, j) for j in range(terms + 1))

    return of


@pytest.mark.parametrize("method", ["exact", "darts"])
def test_the_one_step_unroll_is_exact_and_so_is_a_central_difference_on_a_quadratic(
    method: str,
) -> None:
    toy = ridge_toy(method, eta=ETA, radius=RADIUS)
    assert torch.allclose(toy.outer.implicit, implicit_of(toy, series(ETA, 0)), rtol=1e-10)


def test_forward_difference_is_off_by_half_the_curvature() -> None:
    toy = ridge_toy("forward_difference", eta=ETA, radius=RADIUS)
    off = toy.outer.beta_before.exp() * v_of(toy).square() / 2 * RADIUS / v_of(toy).norm()
    assert torch.allclose(
        toy.outer.implicit, implicit_of(toy, series(ETA, 0)) - ETA * off, rtol=1e-10
    )


@pytest.mark.parametrize("terms", [0, 1, 2, 5])
def test_neumann_is_its_series(terms: int) -> None:
    toy = ridge_toy("neumann", eta=ETA, terms=terms)
    assert torch.allclose(toy.outer.implicit, implicit_of(toy, series(ETA, terms)), rtol=1e-11)


def damped_inverse(eta: float) -> Callable[[Tensor], Tensor]:
    return lambda hessian: torch.linalg.inv(hessian + torch.eye(len(hessian)) / eta)


@pytest.mark.parametrize("eta", [0.01, 1.0, 100.0])
def test_cg_is_the_damped_inverse(eta: float) -> None:
    """As many terms as weights solve the system; rounding is multiplied by its condition."""
    toy = ridge_toy("cg", eta=eta, terms=4)
    assert torch.allclose(toy.outer.implicit, implicit_of(toy, damped_inverse(eta)), rtol=1e-8)


@pytest.mark.parametrize(
    ("method", "options"),
    [("neumann", {"eta": ETA, "terms": 300}), ("cg", {"eta": 1e9, "terms": 4})],
)
def test_converges_to_the_implicit_function_theorem(method: str, options: dict[str, Any]) -> None:
    """Total gradient of L_val(w*(beta)), w* differentiated through the linear solve itself."""
    toy = ridge_toy(method, solved=True, **options)
    beta = toy.outer.beta_before.clone().requires_grad_()
    solution = ridge_solution(toy.train, beta.exp())
    assert torch.allclose(solution, toy.after[0], rtol=1e-10)
    loss = torch.func.functional_call(toy.inner.module, {"w": solution}, (toy.held_out, beta.exp()))
    (expected,) = torch.autograd.grad(loss, beta)
    # cg: damping 1e-9 and rounding; neumann: (1 - 0.3 * smallest eigenvalue)^300 is nothing.
    assert torch.allclose(toy.outer.gradient_seen, expected, rtol=1e-7)


def at_solution(method: Hypergradient, steps: int = 1) -> Toy:
    """A ridge regression whose W stays at the solution of the inner problem, as its rate is 0."""
    return ridge_toy(method, solved=True, rate=0.0, steps=steps)


def test_many_solves_of_soba_reach_the_damped_implicit_function_theorem() -> None:
    toy = at_solution(example("Soba", rate=0.3, eta=5.0, solves=500))
    assert torch.allclose(toy.outer.implicit, implicit_of(toy, damped_inverse(5.0)), rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "options"),
    [("Soba", {"rate": 0.3, "eta": 1e9}), ("Penalty", {"rate": 0.3, "weight": 1e4})],
)
def test_what_is_carried_comes_closer_from_one_outer_step_to_the_next(
    name: str, options: dict[str, float]
) -> None:
    def error(steps: int) -> float:
        toy = at_solution(example(name, **options), steps)
        expected = implicit_of(toy, torch.linalg.inv)
        return float((toy.outer.implicit - expected).norm() / expected.norm())

    errors = [error(steps) for steps in (1, 4, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * errors[0]


def test_the_gradient_of_penalty_is_that_of_the_penalised_loss() -> None:
    """At the y that linear algebra gives, however large the weight."""
    toy = at_solution(example("Penalty", rate=0.3, weight=2.0, steps=500))
    weight = 2.0
    train = toy.train
    held_out = toy.held_out
    w = toy.after[0]
    penalty = toy.outer.beta_before.exp()
    right = sum(
        part * batch["x"].T @ batch["y"] / len(batch["y"])
        for part, batch in ((1, held_out), (weight, train))
    )
    y = torch.linalg.solve(
        ridge_hessian(held_out, penalty) + weight * ridge_hessian(train, penalty), right
    )
    expected = penalty / 2 * (held_out["share"] * y**2 + weight * train["share"] * (y**2 - w**2))
    assert torch.allclose(toy.outer.direct + toy.outer.implicit, expected, rtol=1e-8)


def test_stocbio_on_equal_batches_is_neumanns_series() -> None:
    toy = at_solution(example("StocBio", eta=0.2, terms=6))
    assert torch.allclose(toy.outer.implicit, implicit_of(toy, series(0.2, 6)), rtol=1e-9)
