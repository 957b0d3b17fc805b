"""The components of LoRA: the bases in which a layer is written, and how many are kept.

Any invertible T [r, r] gives the same layer by A' = T A and B' = B T^-1, so what "the first
components" are depends on T. Bases are computed in float64 on the CPU. The factors of stacked
experts have a first dimension for the experts.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

_LEAST_INPUT = 1e-10
_LEAST_SIZE = 1e-6
"""The smallest part of the largest eigenvalue of E[h h'], and of the largest s, that T is computed
with. Otherwise a component that no input or no gradient reaches would be infinitely large in A and
zero in B, or the reverse."""


@dataclass(frozen=True)
class Basis:
    """One layer's LoRA, its components in falling order of what they are worth."""

    a: Tensor
    """[r, inputs]; of stacked experts [experts, r, inputs]"""
    b: Tensor
    """[outputs, r]; of stacked experts [experts, outputs, r]"""
    size: Tensor
    """[r], falling: the singular values of B A, without PEFT's scaling (plain), or s (balanced)."""

    def ordered_by(self, size: Tensor) -> "Basis":
        """The same components in the falling order of other sizes [r]."""
        order = size.argsort(descending=True, stable=True)
        return Basis(self.a[..., order, :], self.b[..., order], size[order])


def plain_basis(a: Tensor, b: Tensor) -> Basis:
    """The singular basis of A [.., r, inputs] and B [.., outputs, r]: B A = U S V', B = U sqrt(S),
    A = sqrt(S) V'. The size of a component of stacked experts is the norm over all of them.

    It knows neither the inputs nor the loss. PEFT's convert_to_lora and kohya's resize_lora.py cut
    in it.
    """
    left, size, right = svd_of_product(_exact(b), _exact(a))
    root = size.sqrt()
    rest = a.shape[-2] - size.shape[-1]  # r beyond a side of the layer: other components are zero
    over_experts = size.reshape(-1, size.shape[-1]).norm(dim=0)
    return Basis(
        pad(root.unsqueeze(-1) * right, (0, 0, 0, rest)),
        pad(left * root.unsqueeze(-2), (0, rest)),
        pad(over_experts, (0, rest)),
    )


def balanced_basis(a: Tensor, b: Tensor, of_inputs: Tensor, of_gradients: Tensor) -> Basis:
    """The basis in which both moments become diag(s): a balanced truncation, as of linear systems
    (Moore 1981).

    `of_inputs` [r, r]: the sum or mean of h h', with h = A x; `of_gradients` [r, r]: of u u', with
    u = dloss/dh of the h that enters B. With means over rows of the loss in nats, s_j^2 / 2
    estimates the nats a row that component j is worth. Moments may be singular: see the constants
    above.
    """
    energy, directions = torch.linalg.eigh(_exact(of_inputs))
    root = energy.clamp_min(_LEAST_INPUT * float(energy.max().clamp_min(0))).sqrt()
    whole = directions * root  # C: C C' = of_inputs
    squares, turn = torch.linalg.eigh(whole.T @ _exact(of_gradients) @ whole)  # V s^2 V'
    size = squares.flip(0).clamp_min(0).sqrt()
    turn = turn.flip(1)
    root = _or_one(root)
    scale = _or_one(size.clamp_min(_LEAST_SIZE * float(size.max()))).sqrt()
    there = (turn * scale).T @ (directions / root).T  # T = sqrt(s) V' C^-1
    back = (directions * root) @ turn / scale
    return Basis(there @ _exact(a), _exact(b) @ back, size)


def svd_of_product(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U [.., outputs, s], S [.., s] and V' [.., s, inputs] of B A, with s = min(outputs, r,
    inputs). After QR of both factors, the SVD is of an [r, r] matrix."""
    left, upper = torch.linalg.qr(b)
    right, lower = torch.linalg.qr(a.mT)
    u, singular, vt = torch.linalg.svd(upper @ lower.mT, full_matrices=False)
    return left @ u, singular, vt @ right.mT


def _exact(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float64)


def _or_one(values: Tensor) -> Tensor:
    """1 in the place of 0, where no input or no gradient was seen at all."""
    return torch.where(values > 0, values, 1.0)


def kept_within(
    worth: Tensor, sizes: Sequence[int], budget: int | None, allowed: Tensor | None = None
) -> Tensor:
    """The components to keep: over all layers, those with the largest worth per parameter, up to
    `budget` parameters.

    `worth`, `allowed` (None: all) and the boolean result are [layers, k]; `sizes` [layers]:
    parameters of one component. A component that no longer fits is skipped, and the next one that
    fits is kept. Of two components with equal worth per parameter, the one of the earlier layer
    comes first. Without a budget, all allowed components are kept. Unlike in the paper, a layer may
    keep no component.
    """
    allowed = torch.ones_like(worth, dtype=torch.bool) if allowed is None else allowed
    if budget is None:
        return allowed
    kept = torch.zeros_like(allowed)
    k = worth.shape[1]
    per_parameter = worth.double() / torch.tensor(sizes, dtype=torch.float64).unsqueeze(1)
    for place in per_parameter.flatten().argsort(descending=True, stable=True).tolist():
        if sizes[place // k] <= budget and allowed.view(-1)[place]:
            kept.view(-1)[place] = True
            budget -= sizes[place // k]
    return kept


def parameters_of(budget: float, sizes: Collection[int]) -> int:
    """The LoRA parameters of a budget, which is an average rank: as many as with this rank in every
    layer.

    `sizes`: the parameters of one component in each layer.
    """
    # In floats 0.29 x 100 is 28.999999999999996: without the factor, floor would lose a whole
    # component.
    return math.floor(budget * sum(sizes) * (1 + 1e-12))


def even_ranks(ranks: Sequence[int], rank: int) -> list[int]:
    """`rank` in every layer, or the layer's own rank where it is smaller."""
    return [min(own, rank) for own in ranks]


def uneven_ranks(
    sizes: Sequence[Tensor],
    parameters_per_rank: Sequence[int],
    parameters: int,
    max_rank: int | None = None,
    least: int = 0,
) -> list[int]:
    """The components of the largest s^2 per parameter over all layers, up to this number of LoRA
    parameters.

    `sizes`: s of each layer [r], falling; `parameters_per_rank`: inputs + outputs of each layer. A
    layer keeps at most `max_rank` components, at least `least`, and none of size 0 beyond these; it
    may keep none at all.
    """
    worth = pad_sequence([size.double().square() for size in sizes], batch_first=True)
    places = torch.arange(worth.shape[1])
    kept = (places < least).expand_as(worth)
    allowed = (worth > 0) & (places < (max_rank or worth.shape[1])) & ~kept
    rest = parameters - least * sum(parameters_per_rank)
    # A layer's components cost the same and are worth ever less, so that those kept are its first
    # ones.
    kept = kept | kept_within(worth, parameters_per_rank, rest, allowed)
    return kept.sum(dim=1).tolist()
