"""The interface of a hypergradient approximation.

All of them return the implicit term of the outer gradient,

    d L_val(W') / d beta = direct + implicit,    implicit = - [d^2 L_tr(W) / d beta d W] M v,    v = dL_val/dW at W'

where W -> W' is the last inner step, on the same batch and under the same dropout masks, and M is what the
approximation takes for dW'/d(-gradient): eta * identity for the one-step unroll of AutoLoRA Eq. 4. Differs from
Betty's own functions, which evaluate at W' and know no eta.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from problems.bilevel import InnerProblem, OuterProblem, Tensors


@dataclass(frozen=True)
class Cost:
    """Passes of one outer step, the inner step it belongs to included; a Hessian-vector product is one backward."""

    forward: int
    backward: int


class Hypergradient(ABC):
    """One approximation; called by Betty through the inner problem's config type."""

    name: ClassVar[str]
    reads_vector: ClassVar[bool] = True
    """Needs v = dL_val/dW."""
    reads_weights_before: ClassVar[bool] = True
    """Needs W of before the inner step."""
    reads_beta_gradient: ClassVar[bool] = False
    """Needs dL_tr/dbeta from the inner step's own backward pass."""
    reads_last_gradient: ClassVar[bool] = False
    """Needs the gradient of the inner step in the optimiser's state as `last_grad`."""
    second_order: ClassVar[bool] = False
    """Differentiates a gradient again: the attention kernel must allow it (eager does, sdpa does not)."""

    @abstractmethod
    def cost(self, terms: int) -> Cost:
        """Passes of one outer step with one inner step; `terms` is read by iterative methods only."""

    @abstractmethod
    def implicit(self, vector: Tensors, inner: InnerProblem, outer: OuterProblem) -> list[Tensor]:
        """The implicit term, one tensor per parameter of `outer`; leaves W bit-equal."""

    def __call__(self, vector: Tensors, curr: InnerProblem, prev: OuterProblem, sync: bool) -> list[Tensor] | None:
        """Betty's calling form. With `sync` the term is added to .grad of `prev` and None is returned."""
        implicit = self.implicit(vector, curr, prev)
        if not sync:
            return implicit
        prev.set_grads(prev.trainable_parameters(), implicit)
        return None
