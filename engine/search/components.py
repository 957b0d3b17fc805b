"""Make the searched components comparable: each update, its gates included, is written in its singular basis."""

import torch
from torch import Tensor

from autolora.engine.cut.basis import svd_of_product
from autolora.problems.gates import Gates, factors
from autolora.problems.models.attach import ADAPTER


@torch.no_grad()
def to_singular_basis(gates: Gates, values: Tensor) -> Tensor:
    """Rewrites B and A of each group so that B diag(gates) A = U S V^T becomes B = U sqrt(S), A = sqrt(S) V^T.

    `values` [groups, k]: the gates of the search; afterwards all gates count as 1. The model's outputs stay the same,
    up to rounding. The loss does not determine the searched components: a factor can move from a gate to its A or B,
    and B R with R^-1 A gives the same update for every invertible R. The singular basis removes both freedoms.
    Component j of a group (a layer, or one part of a fused layer) becomes the j-th singular direction of the group's
    update. For a part, only the rows of B that belong to this part are rewritten.

    Returns the singular values of each group's update, LoRA's scale included, in falling order [groups, k]; on the
    CPU.
    """
    found = []
    for name, gate in zip(gates.names, values.detach().cpu().double(), strict=True):
        group = gates.groups[name]
        layer = gates.layers[group.layer]
        a, b = factors(layer)
        rows, columns = group.rows(b.shape[0]), group.components
        left, singular, right = svd_of_product(b[rows, columns].cpu().double() * gate, a[columns].cpu().double())
        root = singular.sqrt()
        b[rows, columns] = (left * root).to(b)
        a[columns] = (root.unsqueeze(1) * right).to(a)
        found.append(singular * layer.scaling[ADAPTER])
    return torch.stack(found)
