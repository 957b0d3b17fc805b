"""The registry of hypergradient approximations. A new one is one class in one file and one line here."""

from __future__ import annotations

from betty.hypergradient import jvp_fn_mapping

from problems.hypergradients.base import Cost, Hypergradient
from problems.hypergradients.difference import CentralDifference, ForwardDifference
from problems.hypergradients.first_order import FirstOrder
from problems.hypergradients.sama import Sama
from problems.hypergradients.second_order import ConjugateGradient, Exact, Neumann

__all__ = ["HYPERGRADIENTS", "Cost", "Hypergradient", "betty_type"]

HYPERGRADIENTS: dict[str, Hypergradient] = {
    method.name: method
    for method in (
        FirstOrder(),
        CentralDifference(),
        ForwardDifference(),
        Sama(),
        Neumann(),
        ConjugateGradient(),
        Exact(),
    )
}


def betty_type(name: str) -> str:
    """Name under which Betty finds an approximation; its own entries (`darts`, ...) stay what they are."""
    return f"autolora.{name}"


jvp_fn_mapping.update({betty_type(name): method for name, method in HYPERGRADIENTS.items()})
