"""Which components are kept: by the paper's threshold on alpha (AutoLoRA section 4.4), or within a budget by worth."""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from configs.schema import Constraint
from engine.ranks.evidence import SEEN

# Constraints under which the alphas of a layer sum to 1, so that 1/k is the share of each at the uniform start.
SHARES = {"softmax"}

# alpha is a float: at the uniform start it may miss lambda = 1/k by a rounding error, where the rule says "kept".
ROUNDING = 1e-6
_FLOAT = 1e-12


def thresholds(alpha: Tensor, constraint: Constraint) -> Tensor:
    """lambda of each layer [layers, 1]: 1/k for softmax (4.4), 1/2 for sigmoid, sum(alpha)/k for none (Table 4)."""
    k = alpha.shape[1]
    if constraint == "none":
        return alpha.sum(dim=1, keepdim=True) / k
    return torch.full((alpha.shape[0], 1), 1.0 / k if constraint in SHARES else 0.5, dtype=alpha.dtype)


def kept_components(alpha: Tensor, constraint: Constraint) -> Tensor:
    """Which components stay by threshold: alpha_l^j >= lambda_l. Boolean [layers, k]."""
    bound = thresholds(alpha, constraint)
    return alpha >= bound - ROUNDING * bound.abs()


def kept_within(worth: Tensor, sizes: Sequence[int], budget: int | None, allowed: Tensor | None = None) -> Tensor:
    """Which components stay when `budget` LoRA parameters go to the largest worth per parameter of all layers.

    `worth`, `allowed` (None: all), result [layers, k]; `sizes` [layers]: parameters of one component. A component
    without room is passed over for the next that fits; of equal ones the first layer's comes first. Without a budget
    all allowed ones stay. Ours, not the paper's: a layer may keep none.
    """
    allowed = torch.ones_like(worth, dtype=torch.bool) if allowed is None else allowed
    if budget is None:
        return allowed.clone()
    kept, k = torch.zeros_like(allowed), worth.shape[1]
    per_parameter = worth.double() / torch.tensor(sizes, dtype=torch.float64).unsqueeze(1)
    left = budget
    for place in per_parameter.flatten().argsort(descending=True, stable=True).tolist():
        size = sizes[place // k]
        if size <= left and allowed.view(-1)[place]:
            kept.view(-1)[place] = True
            left -= size
    return kept


def above_one_threshold(values: Tensor, sizes: Sequence[int], budget: int) -> Tensor:
    """Which components lie above the lowest threshold on `values`, one for all layers, that `budget` LoRA parameters
    allow: PARA's rule, by which the cost of a component does not count.

    `values` [layers, k], falling in each layer; `sizes` [layers]: parameters of one component. Boolean [layers, k].
    Of equal ones the first layer's come first.
    """
    order = values.flatten().argsort(descending=True, stable=True)
    costs = torch.tensor(sizes).repeat_interleave(values.shape[1])[order]
    kept = torch.zeros(values.numel(), dtype=torch.bool)
    kept[order[costs.cumsum(0) <= budget]] = True
    return kept.view_as(values)


def above_noise(share: Tensor, standard_error: Tensor) -> Tensor:
    """Which shares are no noise. Boolean, of the shape of both."""
    return share > SEEN * standard_error


def parameters_of(budget: float, sizes: Collection[int]) -> int:
    """LoRA parameters of an average rank: those of this rank in every layer. `sizes`: those of one component."""
    # 0.29 x 100 is 28.999999999999996 in floats: a whole component would be lost.
    return math.floor(budget * sum(sizes) * (1 + _FLOAT))
