"""The unroll of all inner steps since the last outer step, and not of the last one alone."""

from functools import partial

import torch
from torch import Tensor

from autolora.problems.hypergradients.base import Hypergradient, Inner, Outer, Tensors
from autolora.problems.hypergradients.second_order import second_derivatives


class Unrolled(Hypergradient):
    """- sum_t eta_t [d^2 L_t / d beta d W] v_t over the inner steps t = 1..n since the last outer step, backwards from
    v_n = v by v_(t-1) = (I - eta_t [d^2 L_t / d W^2]) v_t: each step as one of gradient descent. n = 1 is `exact`.

    At: W before each step, on its batch and under its dropout masks. eta: as configured; with `lr` the learning rate
    of each step. Error: none but rounding, if the inner steps are plain gradient descent of rate eta; clipping and the
    moments of AdamW are not differentiated. Source: truncated reverse mode (Shaban et al. 2019); Betty has none.
    """

    name = "unrolled"
    reads_weights_before = False
    reads_steps = True
    second_order = True

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        weights, beta = inner.trainable_parameters(), outer.trainable_parameters()
        along, term = [v.detach() for v in vector], [torch.zeros_like(b) for b in beta]
        for step in reversed(inner.steps):
            with inner.at(step.weights):
                change = second_derivatives(inner, partial(inner.losses_of, step))(along, [*weights, *beta])
            eta = inner.eta(step)
            term = _less(term, eta, change[len(weights) :])
            along = _less(along, eta, change[: len(weights)])
        return term


def _less(values: Tensors, eta: float, change: Tensors) -> list[Tensor]:
    return [v - eta * c for v, c in zip(values, change, strict=True)]
