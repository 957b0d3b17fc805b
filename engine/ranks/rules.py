"""Which components are kept by the paper's threshold on alpha (AutoLoRA section 4.4).

Tensors of torch and arrays of numpy are taken alike: a finished run is shown without torch, which takes seconds.
"""

import math
from collections.abc import Collection
from typing import Any, TypeVar

from configs.schema import Constraint
from engine.ranks.evidence import SEEN

# Constraints under which the alphas of a layer sum to 1: each starts at 1/k.
SUM_TO_ONE = {"softmax"}

# Relative: at the uniform start a rounding error may put alpha just below lambda = 1/k, where the rule keeps it.
ROUNDING = 1e-6
_FLOAT = 1e-12

Array = TypeVar("Array", bound=Any)
"""A tensor or an array; a function returns the kind that it is given."""


def thresholds(alpha: Array, constraint: Constraint) -> Array:
    """lambda of each layer [layers, 1]: 1/k for softmax (4.4), 1/2 for sigmoid, sum(alpha)/k for none (Table 4)."""
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


def above_noise(share: Array, standard_error: Array) -> Array:
    """Which shares are above noise. Boolean, of the arguments' common shape."""
    seen: Array = share > SEEN * standard_error
    return seen


def parameters_of(budget: float, sizes: Collection[int]) -> int:
    """The LoRA parameters of a budget, which is an average rank: as many as with this rank in every layer.

    `sizes`: the parameters of one component in each layer.
    """
    # 0.29 x 100 is 28.999999999999996 in floats: a whole component would be lost.
    return math.floor(budget * sum(sizes) * (1 + _FLOAT))
