"""Which components are kept by the paper's threshold on alpha (AutoLoRA section 4.4).

The functions take torch tensors and numpy arrays alike: showing a finished run must not wait seconds to import torch.
"""

from typing import Any, TypeVar

from autolora.configs.search import Constraint

# Constraints under which the alphas of a layer sum to 1: each starts at 1/k.
SUM_TO_ONE = {"softmax"}

# A relative tolerance: at the uniform start, rounding may put alpha just below lambda = 1/k, and must not drop it.
ROUNDING = 1e-6

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
