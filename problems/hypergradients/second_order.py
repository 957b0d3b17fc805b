"""Methods that differentiate the inner gradient again: exact, Neumann series, conjugate gradients.

They need an attention kernel with second derivatives (eager). All evaluate at W before the inner step, on its batch
and under its dropout masks.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autolora.problems.hypergradients.base import Hypergradient, Inner, Outer, Tensors

HessianProduct = Callable[[Tensors], list[Tensor]]


class SecondOrder(Hypergradient):
    """- [d^2 L_tr / d beta d W] x, with x = M v from `solve`."""

    second_order = True

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        weights = inner.trainable_parameters()
        with inner.at(inner.weights_before):
            product = second_derivatives(inner, inner.losses_again)

            def hessian(direction: Tensors) -> list[Tensor]:
                # Only the gradient of a single part is kept, and differentiated again.
                return product(direction, weights, retain_graph=inner.part_count == 1)

            x = self.solve([v.detach() for v in vector], hessian, inner)
            mixed = product(x, outer.trainable_parameters())
        return [-m for m in mixed]

    @abstractmethod
    def solve(self, vector: list[Tensor], hessian: HessianProduct, inner: Inner) -> list[Tensor]:
        """M v."""


def second_derivatives(inner: Inner, losses: Callable[[], Iterator[Tensor]]) -> Callable[..., list[Tensor]]:
    """Products with the second derivatives of L_tr at the current W: a function of a direction in W and of inputs,
    which returns d (dL_tr/dW . direction) / d inputs. `losses`: computes the losses of the batch's parts anew."""
    gradients = _gradients(inner, losses)

    def product(direction: Tensors, inputs: Tensors, **options: Any) -> list[Tensor]:
        # map, and no loop: a loop's variable would hold the graph of a part while the next one is computed.
        along = partial(_along, inner, direction=direction, inputs=inputs, **options)
        return inner.summed(map(along, gradients()))

    return product


def _gradients(inner: Inner, losses: Callable[[], Iterator[Tensor]]) -> Callable[[], Iterator[list[Tensor]]]:
    """The gradients dL_tr/dW of the batch's parts; each can be differentiated again.

    The gradient of a single part is computed once and kept. Those of several parts are computed anew for every
    product: a batch is cut into parts because the graphs of all its rows do not fit the memory.
    """

    weights = inner.trainable_parameters()

    def anew() -> Iterator[list[Tensor]]:
        return map(partial(inner.own_gradient, inputs=weights, create_graph=True), losses())

    if inner.part_count > 1:
        return anew
    kept = list(anew())
    return lambda: iter(kept)


def _along(inner: Inner, gradient: Tensors, direction: Tensors, inputs: Tensors, **options: Any) -> list[Tensor]:
    """d (gradient . direction) / d inputs.

    Leaves out the weights that the loss does not use: torch refuses to differentiate their constant gradient.
    """
    curved = [i for i, g in enumerate(gradient) if g.requires_grad]
    along = [direction[i] for i in curved]
    return inner.own_gradient([gradient[i] for i in curved], inputs, grad_outputs=along, **options)


class Exact(SecondOrder):
    """M = eta, with the second derivative itself instead of a difference.

    After an inner step of plain gradient descent at rate eta, the outer gradient is that of L_val(W - eta dL_tr/dW) of
    Algorithm 1. After a step of AdamW, v and the direct term are those at the W' that AdamW reached, so that the outer
    gradient is that of no function; `exact_adamw` differentiates this step.

    At: W before the inner step. eta: as configured. Error: none but rounding. Source: AutoLoRA Eq. 4 and 5.
    """

    name = "exact"

    def solve(self, vector: list[Tensor], hessian: HessianProduct, inner: Inner) -> list[Tensor]:
        eta = inner.eta()
        return [eta * v for v in vector]


class Neumann(SecondOrder):
    """M = eta * sum_{j=0..K} (I - eta H)^j, H = d^2 L_tr/dW^2: K terms towards the inverse Hessian; K = 0 is `exact`.

    At: W before the inner step. eta: as configured; if H is positive definite, the series converges for
    eta < 2 / |H|. Source: Lorraine et al. 2020, as in Betty's `neumann` (which evaluates at W').
    """

    name = "neumann"

    def solve(self, vector: list[Tensor], hessian: HessianProduct, inner: Inner) -> list[Tensor]:
        eta = inner.eta()
        term, total = vector, vector
        for _ in range(inner.config.neumann_iterations):
            term = [t - eta * h for t, h in zip(term, hessian(term), strict=True)]
            total = [s + t for s, t in zip(total, term, strict=True)]
        return [eta * s for s in total]


class ConjugateGradient(SecondOrder):
    """M = (H + I/eta)^-1 by at most K steps of conjugate gradients, H = d^2 L_tr/dW^2.

    At: W before the inner step. eta: the damping is 1/eta. A small eta gives eta * v (the one-step unroll), a large
    eta the implicit function theorem. At a direction without positive curvature the iteration stops, and the result is
    the x of the last step (eta * v if no step was taken, as with K = 0). Source: iMAML (Rajeswaran et al. 2019). Betty
    0.2.1's `cg` has no damping, uses a stale residual and fails with a frozen base.
    """

    name = "cg"

    def solve(self, vector: list[Tensor], hessian: HessianProduct, inner: Inner) -> list[Tensor]:
        eta = inner.eta()
        if eta == 0:
            return [torch.zeros_like(v) for v in vector]
        sizes = [v.numel() for v in vector]
        shapes = [v.shape for v in vector]

        def split(flat: Tensor) -> list[Tensor]:
            return [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]

        def apply(flat: Tensor) -> Tensor:
            return torch.cat([h.flatten() for h in hessian(split(flat))]) + flat / eta

        right = torch.cat([v.flatten() for v in vector])
        return split(_conjugate_gradients(apply, right, inner.config.cg_iterations, start_scale=eta))


def _conjugate_gradients(
    apply: Callable[[Tensor], Tensor], right: Tensor, iterations: int, start_scale: float
) -> Tensor:
    """x with apply(x) close to `right`, by at most `iterations` steps.

    If no step is taken (no iterations, or no positive curvature in the first direction), x is `start_scale * right`.
    """
    x = start_scale * right
    residual, direction = right.clone(), right.clone()
    size = residual @ residual
    for step in range(iterations):
        if size == 0:
            break
        image = apply(direction)
        curvature = direction @ image
        if curvature <= 0:
            break
        length = size / curvature
        x = (x if step > 0 else torch.zeros_like(x)) + length * direction
        residual = residual - length * image
        new_size = residual @ residual
        direction = residual + (new_size / size) * direction
        size = new_size
    return x
