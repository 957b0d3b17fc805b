"""Keeps the entries of a layer's B that belong to none of its parts at exactly 0."""

from collections.abc import Iterable

import torch
from torch import Tensor

from autolora.problems.models.parts import Group


class KeepSparse:
    """A hook on the gradient of a layer's B [outputs, r]: outside the rows of a component's group it becomes 0.

    There AdamW's moments stay 0 and its decay multiplies 0, so entries of B that start at 0 stay exactly 0.
    The hook changes every gradient: also the gradient along which finite differences are taken, and the gradient that
    second-order methods differentiate again. So no hypergradient treats these entries as weights.
    """

    def __init__(self, groups: Iterable[Group], like: Tensor) -> None:
        self.mask = torch.zeros_like(like, dtype=torch.bool)
        for group in groups:
            self.mask[group.rows(len(like)), group.components] = True

    def __call__(self, grad: Tensor) -> Tensor:
        if self.mask.device != grad.device:
            self.mask = self.mask.to(grad.device)  # once, as a copy at every step would stall a GPU
        return grad * self.mask
