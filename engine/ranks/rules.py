"""Which components are kept by the paper's threshold on alpha (AutoLoRA section 4.4).

The functions take torch tensors and numpy arrays alike: showing a finished run must not wait seconds to import torch.
"""

import math
from collections.abc import Collection
from typing import Any, TypeVar

from autolora.configs.schema import Constraint

# Constraints under which the alphas of a layer sum to 1: each starts at 1/k.
SUM_TO_ONE = {"softmax"}

# A relative tolerance: at the uniform start, rounding may put alpha just below lambda = 1/k, and must not drop it.
ROUNDING = 1e-6
_FLOAT = 1e-12

Array = TypeVar("Array", bound=Any)
"""A tensor or an array; a function returns the kind that it is given."""


def thresholds(alpha: Array, constraint: Constraint) -> Array:
    """lambda of each layer [layers, 1].

    1/k for softmax (section 4.4); 1/2 for sigmoid and sum(alpha)/k for none (Table 4).
    """
    k = alpha.shape[1]
    found: Array
    if constraint == "none":
        found = alpha.sum(1)[:, None] / k
    else:
        found = 0 * alpha[:, :1] + (1.0 / k if constraint in SUM_TO_ONE else 0.5)
    return found


def kept_components(alpha: Array, constraint: Constraint) -> Array:
    """Which components stay by threshold: alpha_l^j >= lambda_l. Boolean [layers, k]."""
    bound = thresholds(alpha, constraint)
    kept: Array = alpha >= bound - ROUNDING * abs(bound)
    return kept


def parameters_of(budget: float, sizes: Collection[int]) -> int:
    """The LoRA parameters of a budget, which is an average rank: as many as with this rank in every layer.

    `sizes`: the parameters of one component in each layer.
    """
    # In floats 0.29 x 100 is 28.999999999999996: without the factor, floor would lose a whole component.
    return math.floor(budget * sum(sizes) * (1 + _FLOAT))
