"""The bases of LoRA, how many components are kept, and a model cut for a pass."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from autolora.engine.measure.bases import (
    Basis,
    balanced_basis,
    kept_within,
    plain_basis,
    uneven_ranks,
)
from autolora.engine.measure.lora import Cut, Lora, call_with, heads_off
from tests.helpers.branches import HIDDEN, WIDTH, Branches

R = 5
INPUTS = 9
OUTPUTS = 7
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
    basis = plain_basis(a, b)
    (left, size, right) = torch.linalg.svd(b @ a, full_matrices=False)
    assert basis.a.shape == (r, INPUTS)
    assert basis.b.shape == (OUTPUTS, r)
    torch.testing.assert_close(basis.size, torch.cat([size, torch.zeros(9)])[:r].double(), **EXACT)
    for rank in range(1, r + 1):
        torch.testing.assert_close(
            first(basis, rank), left[:, :rank] * size[:rank] @ right[:rank], **EXACT
        )
    torch.testing.assert_close(basis.a.norm(dim=1), basis.b.norm(dim=0), **EXACT)


def test_the_balanced_basis_makes_both_moments_diagonal() -> None:
    a, b = pair()
    inputs = moment(normal(30, R, seed=2))
    gradients = moment(normal(20, R, seed=3))
    basis = balanced_basis(a, b, inputs, gradients)
    torch.testing.assert_close(first(basis, R), b @ a, **EXACT)
    for found in moments_in(basis, a, inputs, gradients):
        torch.testing.assert_close(found, basis.size.diag(), **EXACT)
    # s^2 are the eigenvalues of the product of both moments, which no T changes.
    expected = torch.linalg.eigvals(inputs @ gradients).real.sort(descending=True).values.sqrt()
    torch.testing.assert_close(basis.size, expected, **EXACT)


@pytest.mark.parametrize(
    ("seen", "behind"),
    [(2, R), (R, 3), (2, 3), (R, 0), (0, R)],
    ids=["few inputs", "few gradients", "few of both", "no gradient or B = 0", "no input"],
)
def test_singular_moments_give_finite_components_of_tame_size(seen: int, behind: int) -> None:
    """Inputs and gradients lie in subspaces of these dimensions."""
    a, b = pair()
    b = b if behind else b * 0
    h = normal(40, seen, seed=4) @ normal(seen, R, seed=5)
    u = normal(40, behind, seed=6) @ normal(behind, R, seed=7)
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
    """The local quadratic loss of a cut: sum over tokens and gradients g (behind B) of (g' (B A -
    kept) x)^2."""
    return float((g @ (b @ a - kept) @ x.T).square().sum())


def test_the_balanced_cut_loses_least_of_a_quadratic_loss() -> None:
    """Two components: no single direction of 20,000 random bases loses less, and the plain basis
    loses more."""
    a, b = pair(2)
    x = normal(50, INPUTS, seed=6) * torch.logspace(0, -2, INPUTS, dtype=torch.float64)
    g = normal(40, OUTPUTS, seed=7) * torch.logspace(-2, 0, OUTPUTS, dtype=torch.float64)
    inputs = moment(x @ a.T)
    gradients = moment(g @ b)
    balanced = balanced_basis(a, b, inputs, gradients)
    found = lost(a, b, first(balanced, 1), x, g)
    turns = normal(20_000, 2, 2, seed=8)
    cuts = (b @ turns[:, :, :1]) @ (torch.linalg.inv(turns)[:, :1] @ a)
    losses = (g @ (b @ a - cuts) @ x.T).square().sum((1, 2))
    assert found <= float(losses.min())
    assert float(losses.min()) < 1.05 * found, "the oracle comes near, or it would prove nothing"
    assert lost(a, b, first(plain_basis(a, b), 1), x, g) > 1.5 * found
    assert found == pytest.approx(float(balanced.size[1] ** 2), rel=1e-9)


SIZES = [torch.tensor(s) for s in ([5.0, 2.0, 0.1], [3.0, 2.9], [4.0, 0.0, 0.0])]


@pytest.mark.parametrize(
    ("costs", "max_rank", "budgets"),
    [
        ([10, 10, 10], None, range(10, 80, 10)),
        ([10, 10, 10], 1, range(10, 80, 10)),
        ([10, 30, 20], None, [10, 30, 40, 70, 100, 110]),
        ([10, 30, 20], 1, [10, 30, 60]),
    ],
)
def test_no_other_ranks_of_this_size_are_worth_more(
    costs: list[int], max_rank: int | None, budgets: list[int]
) -> None:
    """Unequal costs: at sizes that the best components per parameter fill."""

    def total(values: list[Tensor], ranks: Sequence[int]) -> float:
        return sum(float(value[:rank].sum()) for value, rank in zip(values, ranks, strict=True))

    worth = [s.square() for s in SIZES]
    size = [torch.full_like(s, cost) for s, cost in zip(SIZES, costs, strict=True)]
    choices = list(product(*(range(min(len(s), max_rank or 9) + 1) for s in SIZES)))
    for budget in budgets:
        found = uneven_ranks(SIZES, costs, budget, max_rank)
        best = max(total(worth, ranks) for ranks in choices if total(size, ranks) <= budget)
        assert total(size, found) <= budget
        assert total(worth, found) == pytest.approx(best)


def test_a_layer_may_get_nothing_and_nothing_of_size_zero_is_kept() -> None:
    assert uneven_ranks(SIZES, [10, 10, 10], 20) == [1, 0, 1]
    assert uneven_ranks(SIZES, [10, 10, 10], 10_000) == [3, 2, 1]
    assert uneven_ranks(SIZES, [10, 10, 10], 9) == [0, 0, 0]


def test_a_budget_goes_to_the_largest_worth_per_parameter_of_all_layers() -> None:
    worth = torch.tensor([[5.0, 1.0], [0.1, 0.2], [8.0, 6.0]])
    # Per parameter: 0.5, 0.1; 0.01, 0.02; 0.4, 0.3, which has no room. By worth itself it would be
    # 8 and 6.
    assert kept_within(worth, [10, 10, 20], 40).tolist() == [
        [True, True],
        [False, False],
        [True, False],
    ]


def test_what_is_not_allowed_is_never_kept_and_without_a_budget_all_that_is() -> None:
    worth = torch.tensor([[5.0, 4.0], [3.0, 2.0]])
    allowed = torch.tensor([[False, True], [True, False]])
    assert torch.equal(kept_within(worth, [1, 1], 4, allowed), allowed)
    assert kept_within(worth, [1, 1], 1, allowed).tolist() == [[False, True], [False, False]]
    assert torch.equal(kept_within(worth, [1, 1], None, allowed), allowed)
    assert kept_within(worth, [1, 1], None).all()


@given(
    st.lists(st.lists(st.floats(0, 10, width=32), min_size=3, max_size=3), min_size=2, max_size=4),
    st.integers(1, 200),
)
def test_a_budget_is_never_exceeded_and_room_for_one_more_is_never_left(
    rows: list[list[float]], budget: int
) -> None:
    worth = torch.tensor(rows)
    sizes = [7, 11, 13, 5][: len(rows)]
    kept = kept_within(worth, sizes, budget)
    spent = int((kept.sum(dim=1) * torch.tensor(sizes)).sum())
    assert spent <= budget
    dropped = [size for size, row in zip(sizes, kept, strict=True) if not row.all()]
    assert all(size > budget - spent for size in dropped)


ALONE = {"out.1.weight": torch.full((3, 5), 2.0)}


def model_with_head() -> tuple[Any, nn.Parameter]:
    """A model whose second output layer is trained whole, all of whose weights are 6, and these
    weights."""
    base: Any = Branches(2)
    model: Any = get_peft_model(
        base, LoraConfig(r=2, target_modules=["branch.0"], modules_to_save=["out.1"])
    )
    weight = base.out[1].modules_to_save["default"].weight
    with torch.no_grad():
        weight.fill_(6.0)
    return model, weight


@pytest.mark.parametrize(("t", "expected"), [(0.0, 2.0), (0.25, 3.0), (1.0, 6.0)])
def test_at_t_the_head_lies_between_its_ends_and_afterwards_it_is_the_searched_one(
    t: float, expected: float
) -> None:
    model, weight = model_with_head()
    found = Lora(model, off=heads_off(model, ALONE))
    (name,) = found.ungated
    chosen = found.overrides(Cut(found.even(2), ungated=t))

    def stop() -> None:
        head: Any = model.get_base_model().out[1]
        assert torch.equal(head.modules_to_save["default"].weight, torch.full((3, 5), expected))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_with(model, chosen, stop)
    assert torch.equal(weight, torch.full((3, 5), 6.0))
    assert model.get_parameter(name) is weight


def unequal() -> Lora:
    """Three branches with LoRA of ranks 1, 4 and 2, as a finished adapter may have them; the scale
    is 1.5."""
    torch.manual_seed(0)
    base: Any = Branches(3)
    ranks = {"branch.0": 1, "branch.1": 4, "branch.2": 2}
    alphas = {name: 1.5 * rank for name, rank in ranks.items()}
    config = LoraConfig(r=4, target_modules=list(ranks), rank_pattern=ranks, alpha_pattern=alphas)
    model: Any = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    return Lora(model)


def test_a_cut_of_unequal_ranks_is_the_first_components_and_ends_without_a_trace() -> None:
    lora = unequal()
    x = torch.randn(7, 3, WIDTH)
    assert (lora.ranks, lora.k) == ([1, 4, 2], 4)
    assert lora.sizes == [HIDDEN + WIDTH] * 3
    assert lora.even(2).sum(dim=1).tolist() == [1, 2, 2]
    assert lora.first([0, 3, 1]).int().tolist() == [[0, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
    before = [one.clone() for one in lora.model.parameters()]
    whole = lora.model(x=x).logits
    bases = [
        Basis(torch.randn(r, WIDTH), torch.randn(HIDDEN, r), torch.ones(r)) for r in lora.ranks
    ]
    base: Any = lora.model.get_base_model()
    expected = torch.zeros(7, 3)
    for b, (basis, rank) in enumerate(zip(bases, (0, 3, 1), strict=True)):
        weight = base.branch[b].base_layer.weight + 1.5 * basis.b[:, :rank] @ basis.a[:rank]
        expected = expected + base.out[b](x[:, b] @ weight.T)
    cut = lora.overrides(Cut(lora.first([0, 3, 1]), bases))
    torch.testing.assert_close(call_with(lora.model, cut, lora.model, x=x).logits, expected)
    assert all(
        torch.equal(one, other) for one, other in zip(lora.model.parameters(), before, strict=True)
    )
    plain = lora.overrides(Cut(lora.even(4), lora.plain_bases()))
    torch.testing.assert_close(call_with(lora.model, plain, lora.model, x=x).logits, whole)
