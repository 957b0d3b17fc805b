"""Which components are kept: beta -> alpha (Eq. 3 and the ablations) and the outer problem over beta (Eq. 5)."""

from typing import Any

import torch
from torch import Tensor, nn

from autolora.configs.search import Constraint
from autolora.problems.bilevel import OuterProblem


class SelectionVariables(nn.Module):
    """beta [layers, k], and the alpha and the gates that are computed from it.

    | constraint | alpha            | beta at the start | alpha at the start |
    |------------|------------------|-------------------|--------------------|
    | softmax    | softmax(beta_l)  | 0                 | 1/k                |
    | sigmoid    | sigmoid(beta)    | 0                 | 1/2                |
    | none       | beta             | 1                 | 1                  |

    alpha starts uniform, so that random noise decides no rank. (The paper's text does not say how alpha starts; its
    code draws beta at random in one place and sets it uniform in others.)
    """

    def __init__(self, layers: int, k: int, constraint: Constraint = "softmax", scale: str = "start") -> None:
        super().__init__()
        self.constraint = constraint
        self.scale = scale
        start = 1.0 if constraint == "none" else 0.0
        self.beta = nn.Parameter(torch.full((layers, k), start))
        self.alpha_at_start = {"softmax": 1.0 / k, "sigmoid": 0.5, "none": 1.0}[constraint]

    def alpha(self) -> Tensor:
        """alpha [layers, k] (AutoLoRA Eq. 3; sigmoid and none are the ablations of Table 4)."""
        if self.constraint == "softmax":
            return self.beta.softmax(dim=-1)
        if self.constraint == "sigmoid":
            return self.beta.sigmoid()
        return self.beta

    def forward(self) -> Tensor:
        """Gates [layers, k] for the LoRA components.

        With scale "start" a gate is alpha divided by its start value: softmax alone makes the update k times smaller
        than plain LoRA's, and the search learns slowly. lora_alpha can absorb the constant, so Eq. 2 is unchanged.
        """
        alpha = self.alpha()
        return alpha / self.alpha_at_start if self.scale == "start" else alpha


class SelectionProblem(OuterProblem):
    """The outer problem: beta on D_val lowers L_val(W(alpha)) (Eq. 5). Betty sets `self.lora` to the inner problem."""

    lora: Any

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """L_val of one batch of D_val at the gates of the current beta. Scalar."""
        return self.lora.loss(batch, self.module())
