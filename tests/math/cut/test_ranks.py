"""Ranks for a size: one in every layer, or the components worth most per parameter, against brute force."""

from collections.abc import Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from autolora.engine.cut.ranks import even_ranks, uneven_ranks

SIZES = [torch.tensor(s) for s in ([5.0, 2.0, 0.1], [3.0, 2.9], [4.0, 0.0, 0.0])]


def test_a_layer_of_fewer_ranks_keeps_its_own() -> None:
    assert even_ranks([8, 2, 4], 4) == [4, 2, 4]


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

    worth, size = [s.square() for s in SIZES], [torch.full_like(s, cost) for s, cost in zip(SIZES, costs, strict=True)]
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
