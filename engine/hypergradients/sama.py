"""The one-step unroll of an Adam step instead of a gradient step."""

from __future__ import annotations

from betty.hypergradient.utils import precondition
from torch import Tensor

from engine.hypergradients.base import Cost, Hypergradient
from engine.hypergradients.difference import central_difference
from problems.bilevel import InnerProblem, OuterProblem, Tensors


class Sama(Hypergradient):
    """Central difference along D v, D the diagonal d(Adam's update)/d(gradient) at rate 1.

    At: W before the inner step, under its dropout masks. eta: as configured; `lr` gives the step that Adam took and
    Betty's own scale. D is zero at the first step, where Adam has no history. Error: second order in the radius;
    Adam's bias correction is left out. Source: SAMA (Choe et al. 2023) by Betty's `precondition`; the radius is that
    of `darts`, as Betty's 1.0 is far outside the linear range of LoRA weights.
    """

    name = "sama"
    reads_last_gradient = True

    def cost(self, terms: int) -> Cost:
        return Cost(forward=4, backward=4)

    def implicit(self, vector: Tensors, inner: InnerProblem, outer: OuterProblem) -> list[Tensor]:
        rate = inner.optimizer.param_groups[0]["lr"]
        # Betty multiplies by the rate; during warm-up the rate can be zero, and then so is the step.
        eta = inner.eta() / rate if rate > 0 else 0.0
        return [-eta * m for m in central_difference(precondition(vector, inner), inner, outer)]
