"""The paper's threshold on alpha (AutoLoRA section 4.4): which components stay, and which ranks were steady.

The functions take torch tensors and numpy arrays alike: showing a finished run must not wait seconds to import torch.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from autolora.configs.search import Constraint

# Constraints under which the alphas of a layer sum to 1: each starts at 1/k.
SUM_TO_ONE = {"softmax"}

# A relative tolerance: at the uniform start, rounding may put alpha just below lambda = 1/k, and must not drop it.
_ROUNDING = 1e-6

LEAST_POINTS = 8
"""If the last quarter of a search has fewer logged points, no rank counts as steady."""

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
    kept: Array = alpha >= bound - _ROUNDING * abs(bound)
    return kept


def steady_layers(alpha: Sequence[np.ndarray], constraint: Constraint) -> list[bool]:
    """Whether the rank of each layer was the same at all logged points of the last quarter of a search, and these were
    LEAST_POINTS or more. alpha [points][layers, k]."""
    points = len(alpha) // 4
    if points < LEAST_POINTS:
        return [False] * len(alpha[0])
    ranks = np.stack([kept_components(at, constraint).sum(axis=1) for at in alpha[-points:]])
    steady: list[bool] = (ranks == ranks[0]).all(axis=0).tolist()
    return steady
