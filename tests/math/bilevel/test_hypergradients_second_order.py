"""Second derivatives: closed forms of ridge regression, and a real attention kernel."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.search import build_search
from tests.helpers.bilevel_toys import (
    Toy,
    agree,
    cosine,
    lora_toy,
    made,
    ridge_hessian,
    ridge_solution,
    ridge_toy,
)

ETA = 0.3


def ridge_implicit(toy: Toy, inverse: Callable[[Tensor], Tensor], vector: Tensor) -> Tensor:
    """-[d^2 L_tr / d beta dw] M v = -share exp(beta) w * (M v), M by `inverse` of the Hessian."""
    train, penalty, (before,) = toy.train, toy.outer.beta_before.exp(), toy.before
    return -train["share"] * penalty * before * (inverse(ridge_hessian(train, penalty)) @ vector)


def vector_of(toy: Toy) -> Tensor:
    """v = dL_val/dw at w'."""
    held_out, (after,) = toy.held_out, toy.after
    fit = held_out["x"].T @ (held_out["x"] @ after - held_out["y"]) / len(held_out["y"])
    return fit + held_out["share"] * toy.outer.beta_before.exp() * after


@pytest.mark.usefixtures("float64")
class TestRidge:
    def test_exact_is_the_one_step_unroll(self) -> None:
        toy = ridge_toy("exact", eta=ETA)
        expected = ridge_implicit(toy, lambda h: ETA * torch.eye(len(h)), vector_of(toy))
        assert torch.allclose(toy.outer.implicit, expected, rtol=1e-12)

    @pytest.mark.parametrize("terms", [0, 1, 2, 5])
    def test_neumann_is_its_series(self, terms: int) -> None:
        def series(hessian: Tensor) -> Tensor:
            rest = torch.eye(len(hessian)) - ETA * hessian
            return ETA * sum(torch.linalg.matrix_power(rest, j) for j in range(terms + 1))

        toy = ridge_toy("neumann", eta=ETA, terms=terms)
        assert torch.allclose(toy.outer.implicit, ridge_implicit(toy, series, vector_of(toy)), rtol=1e-11)

    @pytest.mark.parametrize("eta", [0.01, 1.0, 100.0])
    def test_cg_is_the_damped_inverse(self, eta: float) -> None:
        """As many terms as weights solve the system; rounding is multiplied by its condition."""
        toy = ridge_toy("cg", eta=eta, terms=4)
        expected = ridge_implicit(toy, lambda h: torch.linalg.inv(h + torch.eye(len(h)) / eta), vector_of(toy))
        assert torch.allclose(toy.outer.implicit, expected, rtol=1e-8)

    @pytest.mark.parametrize(
        ("method", "options"),
        [("neumann", {"eta": ETA, "terms": 300}), ("cg", {"eta": 1e9, "terms": 4})],
    )
    def test_converges_to_the_implicit_function_theorem(self, method: str, options: dict[str, Any]) -> None:
        """Total gradient of L_val(w*(beta)), w* differentiated through the linear solve itself."""
        toy = ridge_toy(method, solved=True, **options)
        beta = toy.outer.beta_before.clone().requires_grad_()
        solution = ridge_solution(toy.train, beta.exp())
        assert torch.allclose(solution, toy.after[0], rtol=1e-10)
        loss = torch.func.functional_call(toy.inner.module, {"w": solution}, (toy.held_out, beta.exp()))
        (expected,) = torch.autograd.grad(loss, beta)
        # cg: damping 1e-9 and rounding; neumann: (1 - 0.3 * smallest eigenvalue)^300 is nothing.
        assert torch.allclose(toy.outer.gradient_seen, expected, rtol=1e-7)


@pytest.mark.usefixtures("float64")
class TestLoraNet:
    def test_cg_without_terms_is_exact(self) -> None:
        toys = [lora_toy(m, dropout=0.1, eta=ETA, terms=0) for m in ("cg", "exact")]
        assert torch.equal(toys[0].outer.implicit, toys[1].outer.implicit)

    def test_cg_with_a_small_eta_is_exact(self) -> None:
        """(H + I/eta)^-1 = eta (I - eta H + ..): the relative difference is eta |H|, |H| below 100 here."""
        toys = [lora_toy(m, dropout=0.1, eta=1e-5, terms=3) for m in ("cg", "exact")]
        agree(toys[0].outer.implicit, toys[1].outer.implicit, 1e-3)


def solve(matrix: Tensor, right: Tensor, iterations: int, eta: float) -> Tensor:
    """What `cg` makes of `right` where the damped Hessian H + I/eta is `matrix`."""
    cg: Any = made("cg", eta, terms=iterations)
    inner = SimpleNamespace(steps=[None])
    hessian = matrix - torch.eye(len(right)) / eta
    (found,) = cg.solve([right], lambda direction: [hessian @ direction[0]], inner)
    return found


@pytest.mark.usefixtures("float64")
class TestConjugateGradients:
    def test_stops_at_the_solution(self) -> None:
        """One step solves the identity; a further one would divide zero by zero."""
        right = torch.tensor([1.0, 2.0])
        assert torch.equal(solve(torch.eye(2), right, 50, eta=2.0), right)

    def test_keeps_what_it_has_when_a_later_direction_curves_down(self) -> None:
        matrix, right = torch.diag(torch.tensor([1.0, 2.0, -1.0])), torch.tensor([1.0, 1.0, 1.0])
        first = (right @ right) / (right @ matrix @ right) * right
        assert torch.allclose(solve(matrix, right, 3, eta=4.0), first)

    @pytest.mark.parametrize("curvature", [-1.0, 0.0])
    def test_falls_back_when_the_first_direction_does(self, curvature: float) -> None:
        right = torch.tensor([1.0, 2.0])
        assert torch.equal(solve(curvature * torch.eye(2), right, 3, eta=0.25), 0.25 * right)


@pytest.mark.trains
def test_central_difference_agrees_with_exact_through_a_real_encoder(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    terms = {}
    for method in ("exact", "darts"):
        # exact until the last step: one that is not the same would lead the two searches apart.
        config = tiny_config("--hypergradient.type", "exact", "--name", method, dropout=0.1)
        engine = build_search(run_of(config), second_order=True)
        engine.train()
        for _ in range(5):
            engine.train_step()
        engine.selection.hypergradient = made(method)
        engine.train_step()
        terms[method] = engine.selection.implicit.double()
    assert engine.lora.module.config._attn_implementation == "eager"
    # fp32: the difference loses digits that double precision keeps.
    assert cosine(terms["darts"], terms["exact"]) > 0.999
    assert float(terms["darts"].norm() / terms["exact"].norm()) == pytest.approx(1, abs=0.02)
