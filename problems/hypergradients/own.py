"""An approximation in a user's file, made with the user's options."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.own_class import own_class
from autolora.problems.hypergradients.base import Hypergradient, Inner, Outer, Tensors
from autolora.problems.machine.compute import seeded
from autolora.problems.machine.draws import seed_of


def own(type_: str, options: Mapping[str, Any]) -> "Own":
    """A new object of the class that `type_` names as FILE.py:CLASS, made with `options` as its arguments.

    Raises UserError if the file or the class is missing, if the class is no Hypergradient, or if it does not take
    these options. Errors in the class itself go on as they are, with their traceback.
    """
    found = own_class(type_, "hypergradient.type")
    if not issubclass(found, Hypergradient):
        raise UserError(
            f"--hypergradient.type: {type_} is no approximation; allowed: a class that derives from Hypergradient of "
            f"autolora.problems.hypergradients"
        )
    takes = inspect.signature(found)
    try:
        takes.bind(**options)
    except TypeError as error:
        raise UserError(
            f"--hypergradient.options: {type_} cannot be made with {dict(options)} ({error}); allowed: "
            f"{', '.join(map(str, takes.parameters.values())) or '{}, as it takes no arguments'}"
        ) from error
    return Own(found(**options), type_)


class Own(Hypergradient):
    """At, eta and Source: those of `wrapped`, the user's approximation, which `type_` names as FILE.py:CLASS.

    What it draws from torch's random numbers follows from the run's seed and the number of the outer step: it is the
    same in all processes, however many there are, and in a search that resumes. It does not change the dropout masks
    of the search, nor do gradients that it leaves in .grad of W count.
    """

    def __init__(self, wrapped: Hypergradient, type_: str) -> None:
        self.wrapped = wrapped
        self.name = type_  # type: ignore[misc]  # a ClassVar of all others
        # Flags of the class are those of the wrapped one; ClassVar keeps mypy from allowing a plain assignment.
        for flag in ("reads_vector", "reads_weights_before", "reads_steps", "reads_beta_gradient",
                     "reads_last_gradient", "second_order"):  # fmt: skip
            setattr(self, flag, getattr(wrapped, flag))

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        with seeded(seed_of(inner.seed, "hypergradient", outer.count), inner.compute.device):
            found = self.wrapped.implicit(vector, inner, outer)
        for weight in inner.trainable_parameters():
            weight.grad = None  # else the next inner step would add to it
        return [one.detach() for one in found]

    @property
    def carries(self) -> bool:
        return self.wrapped.carries

    def state_dict(self) -> dict[str, Any]:
        return self.wrapped.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.wrapped.load_state_dict(state)
