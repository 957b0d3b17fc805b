"""The registry of hypergradient approximations.

Users may write an approximation of their own: a class in a file that hypergradient.type names (`approximation` makes
an object of it). To make one part of the program, write its class in a file of this folder, list it in HYPERGRADIENTS
below, and add a class of settings to configs/search.py, which says what it reads and needs.

NONE is not an approximation: it is registered for a search without outer steps, and no comparison includes it.
"""

from betty.hypergradient import jvp_fn_mapping

from autolora.configs.search import HypergradientConfig, OwnHypergradient
from autolora.problems.hypergradients.adamw import ExactAdamW
from autolora.problems.hypergradients.base import Drawn, Hypergradient, Inner, InnerStep, Outer, Part, Tensors
from autolora.problems.hypergradients.difference import CentralDifference, ForwardDifference
from autolora.problems.hypergradients.first_order import FirstOrder
from autolora.problems.hypergradients.none import NoHypergradient
from autolora.problems.hypergradients.own import own
from autolora.problems.hypergradients.sama import Sama
from autolora.problems.hypergradients.second_order import ConjugateGradient, Exact, Neumann
from autolora.problems.hypergradients.unrolled import Unrolled

__all__ = [
    "HYPERGRADIENTS",
    "NONE",
    "Drawn",
    "Hypergradient",
    "Inner",
    "InnerStep",
    "Outer",
    "Part",
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
        Unrolled(),
    )
}

NONE = NoHypergradient()


def betty_type(name: str) -> str:
    """The name under which Betty finds an approximation; Betty's own entries (`darts`, ...) stay unchanged."""
    return f"autolora.{name}"


def approximation(settings: HypergradientConfig) -> Hypergradient:
    """The approximation of these settings.

    For a class in a user's file (FILE.py:CLASS) each call makes a new object, which may carry numbers from one outer
    step of its search to the next. Raises UserError if the file or the class is missing, if the file fails, if the
    class is no Hypergradient, or if it does not take the options.
    """
    if isinstance(settings, OwnHypergradient):
        return own(settings.type, settings.options)
    return NONE if settings.type == NONE.name else HYPERGRADIENTS[settings.type]


def register(method: Hypergradient) -> str:
    """Adds `method` to Betty's table, in the place of another object of the same name; returns the type to set in the
    inner problem's Betty config."""
    jvp_fn_mapping[betty_type(method.name)] = method
    return betty_type(method.name)


def registered(type_: str) -> Hypergradient:
    """The approximation behind the type of an inner problem's Betty config."""
    return jvp_fn_mapping[type_]


for _method in (*HYPERGRADIENTS.values(), NONE):
    register(_method)
