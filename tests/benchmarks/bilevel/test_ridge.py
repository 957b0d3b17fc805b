"""The ridge regression's own statements about itself."""

import pytest
import torch

from benchmarks.bilevel.ridge import START, LogPenalty, Ridge, Weights, penalties

RIDGE = Ridge.drawn(0, 5, 12)


def test_the_solution_is_a_stationary_point_of_the_inner_loss() -> None:
    beta = torch.linspace(-3, 1, 5, dtype=torch.float64)
    weights = Weights(5)
    with torch.no_grad():
        weights.w.copy_(RIDGE.solution(beta))
    weights(RIDGE.train, penalties(beta)).backward()
    assert weights.w.grad is not None
    assert float(weights.w.grad.norm()) < 1e-12


def test_the_hypergradient_is_that_of_finite_differences() -> None:
    beta, step = torch.linspace(-3, 1, 5, dtype=torch.float64), 1e-6
    found = RIDGE.hypergradient(beta)
    for i, unit in enumerate(torch.eye(5, dtype=torch.float64)):
        slope = (RIDGE.objective(beta + step * unit) - RIDGE.objective(beta - step * unit)) / (2 * step)
        assert float(found[i]) == pytest.approx(float(slope), rel=1e-6, abs=1e-9)


def test_nothing_near_the_best_is_better_and_it_is_better_than_the_start() -> None:
    best = RIDGE.best()
    assert best < RIDGE.at_start() == float(RIDGE.objective(torch.full((5,), START, dtype=torch.float64)))
    draw = torch.Generator().manual_seed(1)
    others = [RIDGE.objective(8 * torch.randn(5, generator=draw, dtype=torch.float64)) for _ in range(300)]
    assert best <= float(min(others)) + 1e-9


def test_a_seed_is_a_problem() -> None:
    assert torch.equal(Ridge.drawn(3, 4, 6).train["x"], Ridge.drawn(3, 4, 6).train["x"])
    assert not torch.equal(Ridge.drawn(3, 4, 6).train["x"], Ridge.drawn(4, 4, 6).train["x"])
    assert LogPenalty(4)()[0].item() == pytest.approx(3 / (1 + 2.718281828459045**4))
