"""The registry of hypergradient approximations.

Users may write an approximation of their own: a class in a file that hypergradient.type names (`approximation` loads
it). To make one part of the program, write its class in a file of this folder, list it in HYPERGRADIENTS below, and
add its name to BuiltIn of configs/ranges.py. If it needs second derivatives, also add the name to SECOND_ORDER of
configs/facts.py; if it reads the radius of a finite difference, to DIFFERENCES there; if it reads terms, to the row of
hypergradient.terms in configs/unread.py.

NONE is not an approximation: it is registered for a search without outer steps, and no comparison includes it.
"""

from betty.hypergradient import jvp_fn_mapping

from configs.errors import UserError
from configs.own_class import own_class
from problems.hypergradients.adamw import ExactAdamW
from problems.hypergradients.base import Cost, Hypergradient, Inner, Outer, Tensors
from problems.hypergradients.difference import CentralDifference, ForwardDifference
from problems.hypergradients.first_order import FirstOrder
from problems.hypergradients.none import NoHypergradient
from problems.hypergradients.own import Own
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
    "approximation",
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


def approximation(type_: str) -> Hypergradient:
    """The approximation that hypergradient.type names.

    If it is a class in a user's file (FILE.py:CLASS), the first call loads it and adds it under that type to
    HYPERGRADIENTS and to Betty's table. Raises UserError if the file or the class is missing, if the file fails, or if
    the class is no Hypergradient.
    """
    if type_ == NONE.name:
        return NONE
    if type_ not in HYPERGRADIENTS:
        HYPERGRADIENTS[type_] = jvp_fn_mapping[betty_type(type_)] = _own(type_)
    return HYPERGRADIENTS[type_]


def _own(type_: str) -> Hypergradient:
    found = own_class(type_, "hypergradient.type")
    if not issubclass(found, Hypergradient):
        raise UserError(
            f"--hypergradient.type: {type_} is no approximation; allowed: a class that derives from Hypergradient of "
            f"problems.hypergradients"
        )
    try:
        return Own(found(), type_)
    except TypeError as error:  # an abstract method is missing, or __init__ takes arguments
        raise UserError(f"--hypergradient.type: {type_} cannot be made without arguments ({error})") from error


def register(method: Hypergradient) -> str:
    """Adds `method` to Betty's table; returns the type to set in the inner problem's Betty config."""
    jvp_fn_mapping[betty_type(method.name)] = method
    return betty_type(method.name)


def registered(type_: str) -> Hypergradient:
    """The approximation behind the type of an inner problem's Betty config."""
    return jvp_fn_mapping[type_]


for _method in (*HYPERGRADIENTS.values(), NONE):
    register(_method)
