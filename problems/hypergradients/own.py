"""An approximation in a user's file: its errors and what it returns are checked at every call."""

import traceback
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from configs.count_words import counted
from configs.errors import UserError
from problems.hypergradients.base import Cost, Hypergradient, Inner, Outer, Tensors
from problems.machine.compute import random_state, replay


class Own(Hypergradient):
    """At, eta and Source: those of `wrapped`, the user's approximation, which `type_` names as FILE.py:CLASS.

    Random numbers that it draws do not change the dropout masks of the search. Raises UserError if it fails, if it
    changes W, or if it does not return one tensor for each parameter of beta, of its shape and dtype.
    """

    def __init__(self, wrapped: Hypergradient, type_: str) -> None:
        self.wrapped = wrapped
        self.type = type_
        # Flags of the class are those of the wrapped one; ClassVar keeps mypy from allowing a plain assignment.
        for flag in ("reads_vector", "reads_weights_before", "reads_beta_gradient", "reads_last_gradient",
                     "second_order"):  # fmt: skip
            setattr(self, flag, getattr(wrapped, flag))

    def cost(self, terms: int) -> Cost:
        return self.wrapped.cost(terms)

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        device = inner.compute.device
        weights = inner.trainable_parameters()
        before = [p.detach().clone() for p in weights]
        try:
            with replay(random_state(device), device):
                found = self.wrapped.implicit(vector, inner, outer)
        except (UserError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise self._refused(f"fails {_where(error)}({said})") from error
        if not all(torch.equal(p, b) for p, b in zip(weights, before, strict=True)):
            raise self._refused("changed W, the inner problem's weights; allowed: an implicit() that restores them")
        self._check(found, outer.trainable_parameters())
        return found

    def _check(self, found: Any, beta: Sequence[Tensor]) -> None:
        allowed = f"allowed: {counted(len(beta), 'tensor')}, one for each parameter of beta, of its shape and dtype"
        if not isinstance(found, list | tuple) or not all(isinstance(one, Tensor) for one in found):
            raise self._refused(f"returned {type(found).__name__} from implicit(), not a list of tensors; {allowed}")
        if len(found) != len(beta):
            raise self._refused(f"returned {len(found)} tensors from implicit(); {allowed}")
        for number, (one, parameter) in enumerate(zip(found, beta, strict=True), start=1):
            if (one.shape, one.dtype) != (parameter.shape, parameter.dtype):
                raise self._refused(
                    f"returned tensor {number} of shape {list(one.shape)} and {one.dtype} from implicit(), where beta "
                    f"has {list(parameter.shape)} and {parameter.dtype}; {allowed}"
                )

    def _refused(self, what: str) -> UserError:
        return UserError(f"--hypergradient.type: {self.type} {what}")


def _where(error: BaseException) -> str:
    """`at line N of FILE `, the innermost place of the traceback; "" if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"at line {frames[-1].lineno} of {frames[-1].filename} " if frames else ""
