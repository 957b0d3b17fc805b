"""The ridge regression's own statements about itself, and the command that learns its penalties."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.bilevel import START, Batches, Ridge, Weights, main, penalties
from tests.helpers.paths import ROOT

RIDGE = Ridge.drawn(0, 5, 12)
SHORT = ("--passes", "60", "--inputs", "4", "--rows", "8", "--seeds", "2", "--unroll_steps", "1")


def test_the_solution_is_a_stationary_point_of_the_inner_loss() -> None:
    beta = torch.linspace(-3, 1, 5, dtype=torch.float64)
    weights = Weights(5)
    with torch.no_grad():
        weights.w.copy_(RIDGE.solution(beta))
    weights(RIDGE.train, penalties(beta)).backward()
    assert weights.w.grad is not None
    assert float(weights.w.grad.norm()) < 1e-12


def test_the_hypergradient_is_that_of_finite_differences() -> None:
    beta = torch.linspace(-3, 1, 5, dtype=torch.float64)
    step = 1e-6
    found = RIDGE.hypergradient(beta)
    for i, unit in enumerate(torch.eye(5, dtype=torch.float64)):
        slope = (RIDGE.objective(beta + step * unit) - RIDGE.objective(beta - step * unit)) / (
            2 * step
        )
        assert float(found[i]) == pytest.approx(float(slope), rel=1e-6, abs=1e-9)


def test_nothing_near_the_best_is_better_and_it_is_better_than_the_start() -> None:
    best = RIDGE.best()
    assert (
        best
        < RIDGE.at_start()
        == float(RIDGE.objective(torch.full((5,), START, dtype=torch.float64)))
    )
    draw = torch.Generator().manual_seed(1)
    others = [
        RIDGE.objective(8 * torch.randn(5, generator=draw, dtype=torch.float64)) for _ in range(300)
    ]
    assert best <= float(min(others)) + 1e-9


def test_a_batch_draws_some_rows_without_putting_back_by_its_seed_and_number() -> None:
    rows = {"x": torch.arange(8.0)[:, None], "y": torch.arange(8.0)}
    given = [Batches(rows, 3, 0)[number].parts[0][0]["y"].tolist() for number in range(50)]
    assert all(len(set(some)) == 3 for some in given)
    assert {row for some in given for row in some} == set(range(8))
    assert given != [Batches(rows, 3, 1)[number].parts[0][0]["y"].tolist() for number in range(50)]
    assert Batches(rows, 0, 0).drawn(5).parts[0][0]["y"].tolist() == list(range(8))


@pytest.mark.trains  # the JSON names the commit, which a process of its own tells
def test_the_command_tells_how_near_each_came(tmp_path: Path) -> None:
    own = f"{ROOT / 'tests' / 'helpers' / 'own_hypergradients.py'}:Carrying"
    words = ["--methods", "first_order", "exact", own, "--options", '{"fails_at": 100}']
    assert main([*SHORT, *words, "--json", str(tmp_path / "x.json")]) == 0
    first_order, exact, _ = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert np.isnan(first_order["cosine"]).all()
    assert first_order["closed"] == [0, 0]
    assert all(0 < cosine <= 1 for cosine in exact["cosine"])


@pytest.mark.trains
def test_a_descent_that_is_not_finite_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--methods", "exact", "--inner_rate", "1e6", "--passes", "900"]) == 0
    assert "part of the way nan" in capsys.readouterr().out
