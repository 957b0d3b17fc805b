"""Measure, during a search, how close each approximation is to the exact one-step unroll."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from autolora.problems.hypergradients import HYPERGRADIENTS, Hypergradient, Inner, Outer, Tensors

Eta = float | str
Makers = Mapping[str, Callable[[], Hypergradient]]
"""Name of an approximation -> makes a new object of it."""


class Probe(Hypergradient):
    """Wraps the search's approximation, and at the steps in `steps` also evaluates every approximation on the same W
    and batch, under the same dropout masks.

    The search itself goes on with the wrapped approximation, at its W and with the configured eta. The comparison is
    made once for each of `etas`. `own`: name -> maker of an approximation of the user's, which is compared with the
    others; each eta has an object of its own. Each
    approximation is compared with `exact` (Eq. 4), and with `exact_adamw`, the step that was taken. Both are always
    computed in fp32 from the same numbers, whatever the precision of the search and of its frozen weights. Attribute
    `rows`: the measurements. Unlike the approximations, this class comes from no paper: it only measures.
    """

    name = "probe"
    reads_steps = True
    reads_beta_gradient = True
    reads_last_gradient = True
    second_order = True

    def __init__(
        self, wrapped: Hypergradient, steps: Sequence[int], etas: Sequence[Eta], own: Makers = MappingProxyType({})
    ) -> None:
        self.wrapped = wrapped
        self.steps = set(steps)
        self.etas = etas
        self.rows: list[dict[str, Any]] = []
        self._own = {eta: {name: make() for name, make in own.items()} for eta in etas}
        self._step = 0

    def timed(self) -> dict[str, Hypergradient]:
        """Name -> object of every approximation whose steps can be timed after the comparison."""
        return {**HYPERGRADIENTS, **self._own[self.etas[0]]}

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        # Called once for each outer step, which comes after `unroll_steps` inner steps; the search counts inner steps.
        self._step += inner.config.unroll_steps
        for eta in self.etas:
            with _changed(inner, eta_setting=eta):
                if self._step in self.steps:
                    self._compare(vector, inner, outer, eta)
                else:
                    for method in self._own[eta].values():
                        if method.carries:
                            method.implicit(vector, inner, outer)
        return self.wrapped.implicit(vector, inner, outer)

    def _compare(self, vector: Tensors, inner: Inner, outer: Outer, eta: Eta) -> None:
        with inner.in_fp32():
            exact, of_step = (
                _flat(HYPERGRADIENTS[name].implicit(vector, inner, outer)) for name in ("exact", "exact_adamw")
            )
        direct = outer.direct.cpu().double()
        for name, implicit in self._terms(vector, inner, outer, eta):
            self.rows.append(
                {
                    "step": self._step,
                    "approximation": name,
                    "eta": str(eta),
                    "cosine": _cosine(implicit, exact),
                    "step_cosine": _cosine(implicit, of_step),
                    "norm_ratio": _ratio(implicit, exact),
                    "total_cosine": _cosine(direct + implicit, direct + exact),
                    "implicit_to_direct": _ratio(implicit, direct),
                }
            )

    def _terms(self, vector: Tensors, inner: Inner, outer: Outer, eta: Eta) -> Iterator[tuple[str, Tensor]]:
        """Name and flat implicit term of every approximation at this step."""
        for name, method in HYPERGRADIENTS.items():
            yield name, _flat(method.implicit(vector, inner, outer))
        for name, method in self._own[eta].items():
            yield name, _flat(method.implicit(vector, inner, outer))


@contextmanager
def _changed(inner: Inner, **settings: Any) -> Iterator[None]:
    """Inside the `with` block, the inner problem has these values of some attributes."""
    kept = {name: getattr(inner, name) for name in settings}
    try:
        vars(inner).update(settings)
        yield
    finally:
        vars(inner).update(kept)


def _flat(tensors: Tensors) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors]).cpu().double()


def _cosine(a: Tensor, reference: Tensor) -> float:
    """The cosine; NaN if one of the two is zero, as the implicit term of `first_order` is, and the reference under
    `hypergradient.eta: lr` while the learning rate is 0."""
    if not (reference.any() and a.any()):
        return float("nan")
    return float(a @ reference) / float(a.norm() * reference.norm())


def _ratio(a: Tensor, reference: Tensor) -> float:
    return float(a.norm() / reference.norm()) if reference.any() else float("nan")
