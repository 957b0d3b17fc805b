"""Which components a budget of parameters keeps."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from autolora.engine.cut.budget import kept_within


def test_a_budget_goes_to_the_largest_worth_per_parameter_of_all_layers() -> None:
    worth = torch.tensor([[5.0, 1.0], [0.1, 0.2], [8.0, 6.0]])
    # Per parameter: 0.5, 0.1; 0.01, 0.02; 0.4, 0.3.
    kept = kept_within(worth, [10, 10, 20], 50)
    assert kept.tolist() == [[True, False], [False, False], [True, True]]  # the second layer is dropped


def test_a_component_without_room_is_passed_over() -> None:
    kept = kept_within(torch.tensor([[5.0], [12.0], [3.0]]), [10, 30, 10], 25)
    assert kept.flatten().tolist() == [True, False, True]


def test_what_is_not_allowed_is_never_kept_and_without_a_budget_all_that_is() -> None:
    worth, allowed = torch.tensor([[5.0, 4.0], [3.0, 2.0]]), torch.tensor([[False, True], [True, False]])
    assert torch.equal(kept_within(worth, [1, 1], 4, allowed), allowed)
    assert kept_within(worth, [1, 1], 1, allowed).tolist() == [[False, True], [False, False]]
    assert torch.equal(kept_within(worth, [1, 1], None, allowed), allowed)
    assert kept_within(worth, [1, 1], None).all()


@given(
    st.lists(st.lists(st.floats(0, 10, width=32), min_size=3, max_size=3), min_size=2, max_size=4),
    st.integers(1, 200),
)
def test_a_budget_is_never_exceeded_and_room_for_one_more_is_never_left(rows: list[list[float]], budget: int) -> None:
    worth = torch.tensor(rows)
    sizes = [7, 11, 13, 5][: len(rows)]
    kept = kept_within(worth, sizes, budget)
    spent = int((kept.sum(dim=1) * torch.tensor(sizes)).sum())
    assert spent <= budget
    dropped = [size for size, row in zip(sizes, kept, strict=True) if not row.all()]
    assert all(size > budget - spent for size in dropped)


def test_two_small_components_are_worth_more_than_a_large_one_that_costs_as_much() -> None:
    # Per parameter 0.3, 0.25, 0.2; by worth alone the last would take the whole budget.
    assert kept_within(torch.tensor([[6.0], [5.0], [8.0]]), [20, 20, 40], 40).flatten().tolist() == [True, True, False]
