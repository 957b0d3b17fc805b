"""Finite differences of dL_tr/dbeta along a direction in W: mixed second derivatives without second derivatives."""

import torch
from torch import Tensor

from autolora.problems.hypergradients.base import Hypergradient, Inner, Outer, Tensors


def step_along(vector: Tensors, radius: float) -> tuple[Tensor, Tensor]:
    """The step e with |e v| = `radius`, and 1/e.

    For v = 0, e is some finite number and 1/e is 0, so that the difference becomes zero. Both are computed on the
    device without a test for v = 0, which would stall a GPU.
    """
    size = torch.nn.utils.get_total_norm(vector)
    return radius / size.clamp_min(torch.finfo(size.dtype).tiny / torch.finfo(size.dtype).eps), size / radius


def beta_gradient(inner: Inner, outer: Outer, along: Tensors, step: Tensor) -> list[Tensor]:
    """dL_tr/dbeta at W + step * along, where W is from before the inner step.

    Costs one forward and one backward pass for each part of the batch.
    """
    weights = [w + step * v for w, v in zip(inner.weights_before, along, strict=True)]
    with inner.at(weights):
        return inner.gradient(inner.losses_again(), outer.trainable_parameters())


def central_difference(vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
    """[d^2 L_tr / d beta d W] vector by (g(W + e v) - g(W - e v)) / 2e with |e v| = `darts_alpha` of Betty's config.

    Zeros for a zero vector. Two forwards, two backwards.
    """
    step, per_step = step_along(vector, inner.config.darts_alpha)
    plus = beta_gradient(inner, outer, vector, step)
    minus = beta_gradient(inner, outer, vector, -step)
    return [(p - m) * per_step / 2 for p, m in zip(plus, minus, strict=True)]


class CentralDifference(Hypergradient):
    """Central difference of dL_tr/dbeta along v.

    At: W before the inner step, both sides under the inner step's own dropout masks. eta: as configured. Error: second
    order in the radius |e v|. Source: DARTS (Liu et al. 2019, Eq. 8), which AutoLoRA's code uses. Betty's `darts` has
    no eta, evaluates at W', and draws new masks for each side, whose noise is 25 times the signal at dropout 0.1.
    """

    name = "darts"

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        eta = inner.eta()
        return [-eta * m for m in central_difference(vector, inner, outer)]


class ForwardDifference(Hypergradient):
    """One-sided difference of dL_tr/dbeta along v: the inner step's own backward pass already gives one of the sides.

    At: W and W + e v, where W is from before the inner step, under its dropout masks. eta: as configured. Error: first
    order in |e v|. Source: AutoLoRA Eq. 4 with a forward instead of DARTS' central difference.
    """

    name = "forward_difference"
    reads_beta_gradient = True

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        step, per_step = step_along(vector, inner.config.darts_alpha)
        plus = beta_gradient(inner, outer, vector, step)
        eta = inner.eta()
        return [-eta * (p - g) * per_step for p, g in zip(plus, inner.beta_gradient, strict=True)]
