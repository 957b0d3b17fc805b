"""Which components are kept by the paper's threshold on alpha (AutoLoRA section 4.4).

Tensors of torch and arrays of numpy are taken alike: a finished run is shown without torch, which takes seconds.
"""

import math
from collections.abc import Collection
from typing import Any, TypeVar

from configs.schema import Constraint
from engine.ranks.evidence import SEEN

# Constraints under which the alphas of a layer sum to 1, so that 1/k is the share of each at the uniform start.
SHARES = {"softmax"}

# alpha is a float: at the uniform start it may miss lambda = 1/k by a rounding error, where the rule says "kept".
ROUNDING = 1e-6
_FLOAT = 1e-12

Array = TypeVar("Array", bound=Any)
"""A tensor or an array; what is returned is of the same kind."""


def thresholds(alpha: Array, constraint: Constraint) -> Array:
    """lambda of each layer [layers, 1]: 1/k for softmax (4.4), 1/2 for sigmoid, sum(alpha)/k for none (Table 4)."""
    k = alpha.shape[1]
    found: Array
    if constraint == "none":
        found = alpha.sum(1)[:, None] / k
    else:
        found = 0 * alpha[:, :1] + (1.0 / k if constraint in SHARES else 0.5)
    return found


def kept_components(alpha: Array, constraint: Constraint) -> Array:
    """Which components stay by threshold: alpha_l^j >= lambda_l. Boolean [layers, k]."""
    bound = thresholds(alpha, constraint)
    kept: Array = alpha >= bound - ROUNDING * abs(bound)
    return kept


def above_noise(share: Array, standard_error: Array) -> Array:
    """Which shares are no noise. Boolean, of the shape of both."""
    seen: Array = share > SEEN * standard_error
    return seen


def parameters_of(budget: float, sizes: Collection[int]) -> int:
    """LoRA parameters of an average rank: those of this rank in every layer. `sizes`: those of one component."""
    # 0.29 x 100 is 28.999999999999996 in floats: a whole component would be lost.
    return math.floor(budget * sum(sizes) * (1 + _FLOAT))
