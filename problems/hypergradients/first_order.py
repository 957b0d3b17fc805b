"""eta = 0: the outer gradient is the direct one alone (ablation "eta = 0" of AutoLoRA Table 4)."""

import torch
from torch import Tensor

from autolora.problems.hypergradients.base import Hypergradient, Inner, Outer, Tensors


class FirstOrder(Hypergradient):
    """The implicit term is zero.

    At: nothing is evaluated. eta: 0, whatever is configured. Source: DARTS' first-order form; AutoLoRA Table 4.
    """

    name = "first_order"
    reads_vector = False
    reads_weights_before = False

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        return [torch.zeros_like(b) for b in outer.trainable_parameters()]
