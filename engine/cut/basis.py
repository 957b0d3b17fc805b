"""Write a layer's LoRA in another basis: B A stays the same, and its first components are what a cut keeps.

Any invertible T [r, r] gives the same layer by A' = T A and B' = B T^-1, so what "the first components" are depends on
T. Everything is computed in float64 on the CPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

_LEAST_INPUT = 1e-10
_LEAST_SIZE = 1e-6
"""The smallest part of the largest eigenvalue of E[h h'], and of the largest s, that T is computed with. Otherwise a
component that no input or no gradient reaches would be infinitely large in A and zero in B, or the reverse."""


@dataclass(frozen=True)
class Basis:
    """One layer's LoRA, its components in falling order of what they are worth."""

    a: Tensor
    """[r, inputs]"""
    b: Tensor
    """[outputs, r]"""
    size: Tensor
    """[r], falling: the singular values of B A, without PEFT's scaling (plain), or s (balanced)."""


def plain_basis(a: Tensor, b: Tensor) -> Basis:
    """The singular basis of A [r, inputs] and B [outputs, r]: B A = U S V', B = U sqrt(S), A = sqrt(S) V'.

    It knows neither the inputs nor the loss. PEFT's convert_to_lora and kohya's resize_lora.py cut in it.
    """
    left, size, right = svd_of_product(_exact(b), _exact(a))
    root = size.sqrt()
    rest = len(a) - len(size)  # an r beyond a side of the layer: the other components are zero
    return Basis(pad(root.unsqueeze(1) * right, (0, 0, 0, rest)), pad(left * root, (0, rest)), pad(size, (0, rest)))


def balanced_basis(a: Tensor, b: Tensor, of_inputs: Tensor, of_gradients: Tensor) -> Basis:
    """The basis in which both moments become diag(s): a balanced truncation, as of linear systems (Moore 1981).

    `of_inputs` [r, r]: the sum or mean of h h', with h = A x; `of_gradients` [r, r]: of u u', with u = dloss/dh of the
    h that enters B. With means over rows of the loss in nats, s_j^2 / 2 estimates the nats a row that component j is
    worth. Moments may be singular: see the constants above.
    """
    energy, directions = torch.linalg.eigh(_exact(of_inputs))
    root = _at_least(energy, _LEAST_INPUT).sqrt()
    whole = directions * root  # C: C C' = of_inputs
    squares, turn = torch.linalg.eigh(whole.T @ _exact(of_gradients) @ whole)  # V s^2 V'
    size, turn = squares.flip(0).clamp_min(0).sqrt(), turn.flip(1)
    root, scale = _or_one(root), _or_one(_at_least(size, _LEAST_SIZE)).sqrt()
    there = (turn * scale).T @ (directions / root).T  # T = sqrt(s) V' C^-1
    back = (directions * root) @ turn / scale
    return Basis(there @ _exact(a), _exact(b) @ back, size)


def svd_of_product(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U [outputs, s], S [s] and V' [s, inputs] of B A, with s = min(outputs, r, inputs). After QR of both factors, the
    SVD is of an [r, r] matrix."""
    left, upper = torch.linalg.qr(b)
    right, lower = torch.linalg.qr(a.T)
    u, singular, vt = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    return left @ u, singular, vt @ right.T


def _exact(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float64)


def _at_least(values: Tensor, part: float) -> Tensor:
    """`values`, none of them negative or below this part of the largest."""
    return values.clamp_min(part * float(values.max().clamp_min(0)))


def _or_one(values: Tensor) -> Tensor:
    """1 in the place of 0, where no input or no gradient was seen at all."""
    return torch.where(values > 0, values, 1.0)
