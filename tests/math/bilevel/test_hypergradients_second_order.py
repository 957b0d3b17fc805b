"""Conjugate gradients, and second derivatives through a real attention kernel. (Closed forms:
*_ridge.py.)"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.engine.search.engine import SearchEngine
from tests.helpers.bilevel_toys import agree, lora_toy, made

ETA = 0.3


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("eta", "terms"), [(ETA, 0), (1e-5, 3)])
def test_cg_without_terms_or_with_a_small_eta_is_exact(eta: float, terms: int) -> None:
    """(H + I/eta)^-1 = eta (I - eta H + ..): the relative difference is eta |H|, |H| below 100
    here."""
    cg, exact = (lora_toy(method, dropout=0.1, eta=eta, terms=terms) for method in ("cg", "exact"))
    agree(cg.outer.implicit, exact.outer.implicit, 1e-3)


def solve(matrix: Tensor, right: Tensor, iterations: int, eta: float) -> Tensor:
    """What `cg` makes of `right` where the damped Hessian H + I/eta is `matrix`."""
    cg: Any = made("cg", eta, terms=iterations)
    hessian = matrix - torch.eye(len(right)) / eta
    (found,) = cg.solve(
        [right], lambda direction: [hessian @ direction[0]], SimpleNamespace(steps=[None])
    )
    return found


def test_cg_stops_at_the_solution() -> None:
    """One step solves the identity; a further one would divide zero by zero."""
    right = torch.tensor([1.0, 2.0])
    assert torch.equal(solve(torch.eye(2), right, 50, eta=2.0), right)


def test_cg_keeps_what_it_has_when_a_later_direction_curves_down() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, -1.0]))
    right = torch.tensor([1.0, 1.0, 1.0])
    first = (right @ right) / (right @ matrix @ right) * right
    assert torch.allclose(solve(matrix, right, 3, eta=4.0), first)


@pytest.mark.parametrize("curvature", [-1.0, 0.0])
def test_cg_falls_back_when_the_first_direction_curves_down(curvature: float) -> None:
    right = torch.tensor([1.0, 2.0])
    assert torch.equal(solve(curvature * torch.eye(2), right, 3, eta=0.25), 0.25 * right)


@pytest.mark.trains
def test_central_difference_agrees_with_exact_through_a_real_encoder(
    built: Callable[..., SearchEngine],
) -> None:
    terms = {}
    for method in ("exact", "darts"):
        # exact until the last step: one that is not the same would lead the two searches apart.
        engine = built("--hypergradient.type", "exact", "--name", method, dropout=0.1)
        engine.train()
        for _ in range(5):
            engine.train_step()
        engine.selection.hypergradient = made(method)
        engine.train_step()
        terms[method] = engine.selection.implicit.double()
    assert engine.lora.module.config._attn_implementation == "eager"
    # fp32: the difference loses digits that double precision keeps
    agree(terms["darts"], terms["exact"], 0.02)
