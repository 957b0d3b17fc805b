"""Which components are kept within a budget of LoRA parameters: those of the largest worth."""

from collections.abc import Sequence

import torch
from torch import Tensor


def kept_within(worth: Tensor, sizes: Sequence[int], budget: int | None, allowed: Tensor | None = None) -> Tensor:
    """Which components stay when `budget` LoRA parameters go, over all layers, to the largest worth per parameter.

    `worth`, `allowed` (None: all) and the result are [layers, k]; `sizes` [layers]: parameters of one component. A
    component that no longer fits is skipped for the next that does; of two with equal worth, that of the earlier layer
    comes first. Without a budget all allowed components stay. Ours, not the paper's: a layer may keep no component.
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
