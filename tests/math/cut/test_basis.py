"""Both bases keep B A; plain is the SVD, balanced makes both moments diag(s) and loses least of a quadratic loss."""

import pytest
import torch
from torch import Tensor

from autolora.engine.cut.basis import Basis, balanced_basis, plain_basis

R, INPUTS, OUTPUTS = 5, 9, 7
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(r: int = R) -> tuple[Tensor, Tensor]:
    return normal(r, INPUTS), normal(OUTPUTS, r, seed=1)


def moment(vectors: Tensor) -> Tensor:
    return vectors.T @ vectors


def first(basis: Basis, rank: int) -> Tensor:
    return basis.b[:, :rank] @ basis.a[:rank]


def moments_in(basis: Basis, a: Tensor, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Both moments in the new basis: h' = T h and u' = T^-T u, with the T of A' = T A."""
    there = basis.a @ torch.linalg.pinv(a)
    return there @ inputs @ there.T, torch.linalg.inv(there).T @ gradients @ torch.linalg.inv(there)


@pytest.mark.parametrize("r", [R, 8])
def test_the_plain_basis_is_the_svd_of_the_product(r: int) -> None:
    """r = 8 is more than the layer's 7 outputs."""
    a, b = pair(r)
    basis, (left, size, right) = plain_basis(a, b), torch.linalg.svd(b @ a, full_matrices=False)
    assert basis.a.shape == (r, INPUTS)
    assert basis.b.shape == (OUTPUTS, r)
    torch.testing.assert_close(basis.size, torch.cat([size, torch.zeros(9)])[:r].double(), **EXACT)
    for rank in range(1, r + 1):
        torch.testing.assert_close(first(basis, rank), left[:, :rank] * size[:rank] @ right[:rank], **EXACT)
    torch.testing.assert_close(basis.a.norm(dim=1), basis.b.norm(dim=0), **EXACT)


def test_the_balanced_basis_makes_both_moments_diagonal() -> None:
    a, b = pair()
    inputs, gradients = moment(normal(30, R, seed=2)), moment(normal(20, R, seed=3))
    basis = balanced_basis(a, b, inputs, gradients)
    torch.testing.assert_close(first(basis, R), b @ a, **EXACT)
    for found in moments_in(basis, a, inputs, gradients):
        torch.testing.assert_close(found, basis.size.diag(), **EXACT)
    # s^2 are the eigenvalues of the product of both moments, which no T changes.
    expected = torch.linalg.eigvals(inputs @ gradients).real.sort(descending=True).values.sqrt()
    torch.testing.assert_close(basis.size, expected, **EXACT)


def test_sums_over_more_rows_and_another_unit_of_the_loss_give_the_same_components() -> None:
    a, b = pair()
    inputs, gradients = moment(normal(30, R, seed=2)), moment(normal(20, R, seed=3))
    one, other = (balanced_basis(a, b, inputs * rows, gradients * rows * 9) for rows in (1, 64))
    torch.testing.assert_close(other.size, 64 * one.size, **EXACT)
    for rank in range(1, R):
        torch.testing.assert_close(first(other, rank), first(one, rank), **EXACT)


@pytest.mark.parametrize(
    ("seen", "behind"), [(2, R), (R, 3), (2, 3), (R, 0), (0, R)],
    ids=["few inputs", "few gradients", "few of both", "no gradient or B = 0", "no input"],
)  # fmt: skip
def test_singular_moments_give_finite_components_of_tame_size(seen: int, behind: int) -> None:
    """Inputs and gradients lie in subspaces of these dimensions."""
    a, b = pair()
    b = b if behind else b * 0
    h, u = normal(40, seen, seed=4) @ normal(seen, R, seed=5), normal(40, behind, seed=6) @ normal(behind, R, seed=7)
    basis = balanced_basis(a, b, moment(h), moment(u))
    torch.testing.assert_close(first(basis, R), b @ a, rtol=1e-7, atol=1e-7)
    assert (basis.size.diff() <= 0).all()
    assert (basis.a.norm(dim=1) < 1e3 * a.norm()).all()
    assert (basis.b.norm(dim=0) < 1e3 * normal(OUTPUTS, R).norm()).all()
    rank = min(seen, behind)
    assert (basis.size > 1e-4 * basis.size[0]).sum() == rank
    kept = torch.linalg.pinv(b) @ first(basis, rank) @ torch.linalg.pinv(a)  # T^-1 diag(1, 0) T
    torch.testing.assert_close(h @ kept.T @ u.T, h @ u.T, rtol=0, atol=1e-3)


def lost(a: Tensor, b: Tensor, kept: Tensor, x: Tensor, g: Tensor) -> float:
    """The local quadratic loss of a cut: sum over tokens and gradients g (behind B) of (g' (B A - kept) x)^2."""
    return float((g @ (b @ a - kept) @ x.T).square().sum())


def test_the_balanced_cut_loses_least_of_a_quadratic_loss() -> None:
    """Two components: no single direction of 20,000 random bases loses less, and the plain basis loses more."""
    a, b = pair(2)
    x = normal(50, INPUTS, seed=6) * torch.logspace(0, -2, INPUTS, dtype=torch.float64)
    g = normal(40, OUTPUTS, seed=7) * torch.logspace(-2, 0, OUTPUTS, dtype=torch.float64)
    inputs, gradients = moment(x @ a.T), moment(g @ b)
    balanced = balanced_basis(a, b, inputs, gradients)
    found = lost(a, b, first(balanced, 1), x, g)
    turns = normal(20_000, 2, 2, seed=8)
    cuts = (b @ turns[:, :, :1]) @ (torch.linalg.inv(turns)[:, :1] @ a)
    losses = (g @ (b @ a - cuts) @ x.T).square().sum((1, 2))
    assert found <= float(losses.min())
    assert float(losses.min()) < 1.05 * found, "the oracle comes near, or it would prove nothing"
    assert lost(a, b, first(plain_basis(a, b), 1), x, g) > 1.5 * found
    assert found == pytest.approx(float(balanced.size[1] ** 2), rel=1e-9)


def test_a_planted_direction_is_found_where_the_largest_one_is_not_read() -> None:
    """The largest component reads an input that is always 0; balanced keeps the small one."""
    a, b = torch.eye(2, INPUTS).double(), normal(OUTPUTS, 2) * torch.tensor([10.0, 1.0])
    x, g = normal(50, INPUTS, seed=6), normal(50, OUTPUTS, seed=7)
    x[:, 0] = 0
    basis = balanced_basis(a, b, moment(x @ a.T), moment(g @ b))
    torch.testing.assert_close(first(basis, 1) @ x.T, b @ a @ x.T, rtol=1e-6, atol=1e-6)
    assert lost(a, b, first(plain_basis(a, b), 1), x, g) > 0.5 * lost(
        a, b, torch.zeros(OUTPUTS, INPUTS).double(), x, g
    )
