"""The one-step unroll of an Adam step instead of a gradient step."""

from collections.abc import Iterator
from contextlib import contextmanager

from betty.hypergradient.utils import precondition
from torch import Tensor
from torch.optim import Optimizer

from autolora.problems.hypergradients.base import Hypergradient, Inner, Outer, Tensors
from autolora.problems.hypergradients.difference import central_difference


class Sama(Hypergradient):
    """Central difference along D v, where D is the diagonal of d(Adam's update)/d(gradient) at learning rate 1.

    At: W before the inner step, under its dropout masks. eta: as configured; with `lr` the term is multiplied by the
    learning rate, as in Betty's own `sama`. D is zero at the first step, where Adam has no history; if the inner
    optimiser is SGD, D is the identity, and the term is that of `darts`. Error: second order in the radius. Adam's
    bias correction is left out, which makes the term too large by the factor (1 - b1^t) / sqrt(1 - b2^t) (6.5 at step
    10, 3.2 at 100, 1.3 at 1000). Gradient clipping is not differentiated either, as in Betty's own `sama`: in a step
    whose gradient was clipped, D is that of the clipped gradient, and the term is too large by the factor |gradient| /
    clip or more, and points in another direction. Source: SAMA (Choe et al. 2023) by Betty's `precondition`; the
    radius is that of `darts`, as Betty's 1.0 is far outside the linear range of LoRA weights.
    """

    name = "sama"
    reads_last_gradient = True

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        with _rate_one(inner.optimizer):
            direction = precondition(vector, inner)
        eta = inner.eta()
        return [-eta * m for m in central_difference(direction, inner, outer)]


@contextmanager
def _rate_one(optimizer: Optimizer) -> Iterator[None]:
    """Sets the learning rates to 1 inside the context, as eta alone decides the size of the term.

    Betty's `precondition` multiplies by the learning rate, which is already that of the next step and can be zero.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        for group in optimizer.param_groups:
            group["lr"] = 1.0
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
