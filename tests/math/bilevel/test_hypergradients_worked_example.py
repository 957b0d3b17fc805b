"""The examples in docs/hypergradients.md of an approximation of one's own: as printed, they compute what they say."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.search import OwnHypergradient
from autolora.problems.hypergradients import approximation, register
from tests.helpers.bilevel_toys import Toy, lora_toy, ridge_hessian, ridge_toy, unrolled
from tests.helpers.places import ROOT

PAGE = ROOT / "docs" / "hypergradients.md"

pytestmark = pytest.mark.usefixtures("float64", "unchanged_registry")


@pytest.fixture
def printed(tmp_path: Path) -> dict[str, str]:
    """Class -> its name as a type, of the examples on the page, written to files."""
    found = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        (file,) = re.findall(r"^# (\w+\.py)$", code, re.M)
        (name,) = re.findall(r"^class (\w+)", code, re.M)
        (tmp_path / file).write_text(code, encoding="utf-8")
        found[name] = f"{tmp_path / file}:{name}"
    return found


def of_type(type_: str, **options: Any) -> str:
    """The type, which Betty then knows."""
    register(approximation(OwnHypergradient(type=type_, options=options)))
    return type_


@pytest.fixture
def difference(printed: dict[str, str]) -> str:
    return of_type(printed["BackwardDifference"])


def test_the_error_is_first_order_in_the_radius(difference: str) -> None:
    def error(radius: float) -> float:
        toy = lora_toy(difference, eta=1.0, darts_alpha=radius)
        return float((toy.outer.implicit - unrolled(toy, 1.0)[1]).norm())

    assert error(0.04) / error(0.02) == pytest.approx(2, rel=0.1)
    assert error(1e-5) < 1e-3 * float(lora_toy(difference, eta=1.0).outer.implicit.norm())


def at_solution(type_: str, options: dict[str, Any] | None = None, steps: int = 1) -> Toy:
    """A ridge regression whose W stays at the solution of the inner problem, as its rate is 0."""
    return ridge_toy(of_type(type_, **(options or {})), solved=True, rate=0.0, steps=steps)


def exact_term(toy: Toy) -> torch.Tensor:
    """The implicit term of the implicit function theorem."""
    train, held_out, w, penalty = toy.inner.cur_batch, toy.outer.cur_batch, toy.after[0], toy.outer.beta_before.exp()
    vector = held_out["x"].T @ (held_out["x"] @ w - held_out["y"]) / len(held_out["y"])
    vector = vector + held_out["share"] * penalty * w
    return -train["share"] * penalty * w * torch.linalg.solve(ridge_hessian(train, penalty), vector)


def test_many_solves_reach_the_implicit_function_theorem(printed: dict[str, str]) -> None:
    toy = at_solution(printed["Soba"], {"rate": 0.3, "solves": 500})
    assert torch.allclose(toy.outer.implicit, exact_term(toy), rtol=1e-8)


@pytest.mark.parametrize(("name", "options"), [("Soba", {"rate": 0.3}), ("Penalty", {"rate": 0.3, "weight": 1e4})])
def test_it_comes_closer_from_one_outer_step_to_the_next(
    printed: dict[str, str], name: str, options: dict[str, float]
) -> None:
    type_ = printed[name]

    def error(steps: int) -> float:
        toy = at_solution(type_, options, steps)
        expected = exact_term(toy)
        return float((toy.outer.implicit - expected).norm() / expected.norm())

    errors = [error(steps) for steps in (1, 4, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * errors[0]


class TestPenalty:
    def test_its_gradient_is_that_of_the_penalised_loss(self, printed: dict[str, str]) -> None:
        """At the y that linear algebra gives, however large the weight."""
        toy = at_solution(printed["Penalty"], {"rate": 0.3, "weight": 2.0, "steps": 500})
        train, held_out, w, weight = toy.inner.cur_batch, toy.outer.cur_batch, toy.after[0], 2.0
        penalty = toy.outer.beta_before.exp()
        right = sum(
            part * batch["x"].T @ batch["y"] / len(batch["y"]) for part, batch in ((1, held_out), (weight, train))
        )
        y = torch.linalg.solve(ridge_hessian(held_out, penalty) + weight * ridge_hessian(train, penalty), right)
        expected = penalty / 2 * (held_out["share"] * y**2 + weight * train["share"] * (y**2 - w**2))
        assert torch.allclose(toy.outer.direct + toy.outer.implicit, expected, rtol=1e-8)

    def test_a_large_weight_gives_the_implicit_function_theorem(self, printed: dict[str, str]) -> None:
        toy = at_solution(printed["Penalty"], {"rate": 0.3, "weight": 1e5, "steps": 500})
        assert torch.allclose(toy.outer.implicit, exact_term(toy), rtol=1e-3)

    def test_it_takes_gradients_alone(self, printed: dict[str, str]) -> None:
        """So it runs with any attention kernel: two passes for the steps themselves, one at W', two at each y."""
        passes = at_solution(printed["Penalty"]).inner.passes
        assert (passes.forward, passes.backward) == (2 + 1 + 2 * 2, 2 + 1 + 2 * 2)


class TestStocBio:
    def test_on_equal_batches_it_is_neumanns_series(self, printed: dict[str, str]) -> None:
        """sum_{j=0..K} eta (I - eta H)^j, by linear algebra."""
        toy = ridge_toy(of_type(printed["StocBio"]), solved=True, rate=0.0, eta=0.2, neumann_iterations=6)
        train, w, penalty = toy.inner.cur_batch, toy.after[0], toy.outer.beta_before.exp()
        vector = torch.autograd.grad(toy.inner.module(toy.outer.cur_batch, penalty), toy.inner.trained)[0]
        shrink = torch.eye(len(w)) - 0.2 * ridge_hessian(train, penalty)
        series = sum((torch.matrix_power(shrink, j) for j in range(7)), torch.zeros_like(shrink))
        expected = -train["share"] * penalty * w * (0.2 * series @ vector)
        assert torch.allclose(toy.outer.implicit, expected, rtol=1e-9)

    def test_each_product_draws_a_batch_of_its_own(self, printed: dict[str, str]) -> None:
        toy, seen = lora_toy(of_type(printed["StocBio"]), neumann_iterations=3), []
        draw = toy.inner.draw
        toy.inner.draw = lambda: seen.append(draw()) or seen[-1]
        before = toy.inner.passes.forward
        toy.step()
        assert len({float(batch.parts[0][0]["x"].sum()) for batch in seen}) == 4
        assert toy.inner.passes.forward - before == 2 + 4
