"""The one-step unroll of the step that the search takes: AdamW, after the gradient was clipped."""

import torch
from torch import Tensor
from torch.optim import Adam, AdamW

from autolora.problems.hypergradients.base import Inner, Tensors
from autolora.problems.hypergradients.second_order import HessianProduct, SecondOrder

_CLIPS_BY = 1e-6
"""torch clips by the factor clip / (norm + 1e-6)."""


class ExactAdamW(SecondOrder):
    """M = eta C D: D is the diagonal of d(AdamW's update)/d(gradient) at learning rate 1, with its bias correction;
    C is the derivative of gradient clipping.

    At: W before the inner step, under its dropout masks. eta: as configured; with `lr` the term is that of the step
    that was taken. The moments of earlier steps are constants, as in any one-step unroll; if the inner optimiser is no
    Adam, D is the identity. Error: none but rounding. Source: the chain rule through torch's AdamW and
    clip_grad_norm_; SAMA (Choe et al. 2023) leaves out the bias correction and the clipping.
    """

    name = "exact_adamw"
    reads_last_gradient = True

    def solve(self, vector: list[Tensor], hessian: HessianProduct, inner: Inner) -> list[Tensor]:
        eta = inner.eta()
        gradients = [_state(inner, w).get("last_grad", torch.zeros_like(w)) for w in inner.trainable_parameters()]
        slopes = _slopes(gradients, inner)
        return _through_clipping([eta * d * v for d, v in zip(slopes, vector, strict=True)], gradients, inner)


def _state(inner: Inner, weight: Tensor) -> dict[str, Tensor]:
    return inner.optimizer.state.get(weight, {})


@torch.no_grad()
def _slopes(gradients: Tensors, inner: Inner) -> list[Tensor]:
    """The derivative of Adam's update with respect to the gradient that it used; 0 for a weight without a gradient.

    With m and v the moments after the step, corrected for their bias, the update is m / (sqrt(v) + epsilon).
    """
    if not isinstance(inner.optimizer, Adam | AdamW):
        return [torch.ones_like(g) for g in gradients]
    found = []
    groups = {id(w): group for group in inner.optimizer.param_groups for w in group["params"]}
    for weight, gradient in zip(inner.trainable_parameters(), gradients, strict=True):
        state, group = _state(inner, weight), groups[id(weight)]
        if "exp_avg" not in state:
            found.append(torch.zeros_like(gradient))
            continue
        (one, two), steps = group["betas"], state["step"]  # a tensor: reading it would stall a GPU
        first, second = 1 - one**steps, 1 - two**steps
        root = (state["exp_avg_sq"] / second).sqrt()
        size = root + group["eps"]
        bend = torch.where(root > 0, (1 - two) / second * gradient / root, 0.0)
        found.append((1 - one) / first / size - state["exp_avg"] / first / size.square() * bend)
    return found


@torch.no_grad()
def _through_clipping(vector: list[Tensor], gradients: Tensors, inner: Inner) -> list[Tensor]:
    """The transposed derivative of clipping, applied to `vector`. `gradients`: those after clipping.

    Clipping multiplies the gradient g by c = clip / (|g| + 1e-6) if |g| is larger than clip, and c falls with |g|.
    """
    norm = inner.norm_before_clipping
    if norm is None:
        return vector
    factor = inner.gradient_clipping / (norm + _CLIPS_BY)
    clipped = factor < 1
    length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().clamp_min(torch.finfo(norm.dtype).tiny)
    along = torch.stack([(g * v).sum() for g, v in zip(gradients, vector, strict=True)]).sum() / length**2
    share = norm / (norm + _CLIPS_BY)
    return [torch.where(clipped, factor * (v - share * along * g), v) for g, v in zip(gradients, vector, strict=True)]
