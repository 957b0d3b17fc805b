"""Learning the penalties by an approximation."""

import math
from functools import partial
from statistics import mean

import pytest
import torch

from autolora.problems.hypergradients import approximation
from benchmarks.bilevel.descent import Descent, Point, learn
from benchmarks.bilevel.ridge import Ridge

RIDGE = Ridge.drawn(0, 6, 20)


def run(method: str, unroll_steps: int = 1, eta: float | str = "lr", terms: int = 6, budget: int = 300) -> list[Point]:
    return list(learn(RIDGE, Descent(lambda: approximation(method), unroll_steps, eta, terms, (0.3, 0.05)), budget))


def test_first_order_learns_nothing_as_beta_acts_through_w_alone() -> None:
    points = run("first_order", budget=40)
    assert {point.objective for point in points} == {points[0].objective}
    assert all(math.isnan(point.cosine) for point in points)


def test_with_w_solved_the_implicit_function_theorem_is_the_truth() -> None:
    """Conjugate gradients take at most as many steps as there are weights; a large eta switches the damping off."""
    points = run("cg", unroll_steps=200, eta=1e6, budget=2000)
    assert points[-1].cosine == pytest.approx(1, abs=1e-3)


def test_a_one_step_unroll_points_elsewhere_and_still_descends() -> None:
    points = run("exact", unroll_steps=200, budget=6000)
    assert 0 < points[-1].cosine < 0.99
    assert points[-1].objective < RIDGE.at_start()


def test_with_adam_the_step_that_was_taken_is_modelled() -> None:
    """Each step of Adam moves a weight by about its rate, so that its derivative is another than that of descent."""
    how = [
        Descent(partial(approximation, name), 1, "lr", 0, (0.03, 0.05), adam=True) for name in ("exact", "exact_adamw")
    ]
    exact, of_step = (list(learn(RIDGE, one, 100)) for one in how)
    assert [point.passes for point in exact] == [point.passes for point in of_step]
    assert of_step[-1].cosine != pytest.approx(exact[-1].cosine, abs=1e-3)
    assert of_step[-1].objective < RIDGE.at_start()


@pytest.mark.parametrize(("method", "passes"), [("first_order", 4), ("darts", 8), ("exact", 7)])
def test_the_passes_are_those_of_the_documentation(method: str, passes: int) -> None:
    points = run(method, budget=100)
    assert [point.passes for point in points[:3]] == [passes, 2 * passes, 3 * passes]


def test_on_some_of_the_rows_the_implicit_function_theorem_is_no_longer_the_truth() -> None:
    """Its Hessian and its gradients are those of a few rows."""
    whole, drawn = (
        list(learn(RIDGE, Descent(lambda: approximation("cg"), 50, 1e6, 6, (0.3, 0.05), batch_rows=rows), 3000))
        for rows in (None, 5)
    )
    assert [point.passes for point in whole] == [point.passes for point in drawn]
    assert mean(point.cosine for point in drawn) < 0.9 < min(point.cosine for point in whole)


def test_a_gradient_that_is_not_finite_ends_the_descent() -> None:
    assert len(list(learn(RIDGE, Descent(lambda: approximation("exact"), 1, "lr", 0, (1e200, 0.05)), 10_000))) < 20


def test_the_same_problem_gives_the_same_points() -> None:
    torch.manual_seed(0)
    first = run("darts")
    torch.manual_seed(1)
    assert run("darts")[1:] == first[1:]
