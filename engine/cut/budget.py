"""Choose the components that are kept within a budget of LoRA parameters: those worth most per parameter."""

from collections.abc import Sequence

import torch
from torch import Tensor


def kept_within(worth: Tensor, sizes: Sequence[int], budget: int | None, allowed: Tensor | None = None) -> Tensor:
    """The components to keep: over all layers, those with the largest worth per parameter, up to `budget` parameters.

    `worth`, `allowed` (None: all) and the boolean result are [layers, k]; `sizes` [layers]: parameters of one
    component. A component that no longer fits is skipped, and the next one that fits is kept. Of two components with
    equal worth per parameter, the one of the earlier layer comes first. Without a budget, all allowed components are
    kept. Unlike in the paper, a layer may keep no component.
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
