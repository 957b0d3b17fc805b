"""The registry of hypergradient approximations.

A new one is a class in a file of its own, listed in HYPERGRADIENTS below and named in HypergradientConfig.type. If it
needs second derivatives, it is also named in SECOND_ORDER of configs/facts.py; if it reads the radius of a finite
difference, in DIFFERENCES of configs/unread.py; if it reads terms, in the row of hypergradient.terms there.

NONE is not an approximation: it is registered for a search without outer steps, and no comparison includes it.
"""

from betty.hypergradient import jvp_fn_mapping

from problems.hypergradients.adamw import ExactAdamW
from problems.hypergradients.base import Cost, Hypergradient, Inner, Outer, Tensors
from problems.hypergradients.difference import CentralDifference, ForwardDifference
from problems.hypergradients.first_order import FirstOrder
from problems.hypergradients.none import NoHypergradient
from problems.hypergradients.sama import Sama
from problems.hypergradients.second_order import ConjugateGradient, Exact, Neumann

__all__ = [
    "HYPERGRADIENTS",
    "NONE",
    "Cost",
    "Hypergradient",
    "Inner",
    "Outer",
    "Tensors",
    "betty_type",
    "register",
    "registered",
]

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
        ExactAdamW(),
    )
}

NONE = NoHypergradient()


def betty_type(name: str) -> str:
    """The name under which Betty finds an approximation; Betty's own entries (`darts`, ...) stay unchanged."""
    return f"autolora.{name}"


def register(method: Hypergradient) -> str:
    """Adds `method` to Betty's table; returns the type to set in the inner problem's Betty config."""
    jvp_fn_mapping[betty_type(method.name)] = method
    return betty_type(method.name)


def registered(type_: str) -> Hypergradient:
    """The approximation behind the type of an inner problem's Betty config."""
    return jvp_fn_mapping[type_]


for _method in (*HYPERGRADIENTS.values(), NONE):
    register(_method)
