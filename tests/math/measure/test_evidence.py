"""What was measured: how many ranks and which budget are enough, and the record of it."""

import dataclasses

import pytest

from autolora.engine.measure.evidence import interval
from tests.helpers.evidence import evidence_of, point


def test_enough_is_tested_from_k_downwards_up_to_the_first_failure() -> None:
    assert evidence_of().sufficient_rank(0.05) == 2  # 0.008 + 1.64 x 0.001 <= 0.05 x 0.2
    assert evidence_of().sufficient_rank(0.01) == 8  # rank 4 loses 0.001 + 0.00164 > 0.002
    assert evidence_of().sufficient_rank(0.5) == 1
    lucky = (point(1, 0.0), point(2, 0.05), point(4, 0.001), point(8, 0.0, 0.0))
    assert evidence_of(rank_curve=lucky).sufficient_rank(0.05) == 4  # rank 1 came after a failure
    unsure = (point(4, 0.001, 0.02), point(8, 0.0, 0.0))
    assert evidence_of(rank_curve=unsure).sufficient_rank(0.05) == 8


def test_what_is_enough_is_what_keeps_enough_at_the_lower_end_of_its_printed_interval() -> None:
    """The test took the gain as exact: it called a rank enough whose interval began at 92 %."""
    # every row loses 0.008
    alike = dataclasses.replace(point(4, 0.008, 0.0), kept_standard_error=0.02)
    assert evidence_of(rank_curve=(alike, point(8, 0.0, 0.0))).sufficient_rank(0.05) == 8
    assert evidence_of(budget_curve=(alike,)).sufficient_budget(0.05) is None
    for error, enough in ((0.0061, 4), (0.0062, 8)):  # 0.96 - 1.64 x 0.0061 = 0.94999...
        curve = (dataclasses.replace(alike, kept_standard_error=error), point(8, 0.0, 0.0))
        low, _ = interval(curve[0].kept, error)
        assert evidence_of(rank_curve=curve).sufficient_rank(0.0500041) == enough
        assert (low >= 1 - 0.0500041) is (enough == 4)


def test_beside_an_over_fitted_model_the_error_of_what_the_best_rank_gains_counts_too() -> None:
    curve = [point(1, -0.039), point(2, -0.05, 0.002), point(4, -0.048, 0.0), point(8, 0.0, 0.01)]
    curve[1] = dataclasses.replace(curve[1], standard_error=0.0)
    found = evidence_of(rank_curve=tuple(curve))
    assert found.overfitted
    # Rank 1 loses 0.011 of 0.25, 4.4 %, with an error of 0.5 % or as given.
    assert found.sufficient_rank(0.05) == 2
    for error, enough in ((0.003, 1), (0.004, 2)):  # 0.956 - 1.64 x 0.003 > 0.95
        told = (dataclasses.replace(curve[0], reference_kept_standard_error=error), *curve[1:])
        assert evidence_of(rank_curve=told).sufficient_rank(0.05) == enough


def test_over_fitted_cuts_are_compared_with_the_best_rank() -> None:
    """On QQP a quarter of rank 1 was enough, as it kept 110 % of the gain; rank 1 kept 122 %, and
    trainings at the quarter lost 24 %."""
    ranks = (point(1, -0.01), point(2, -0.05), point(4, -0.02), point(8, 0.0, 0.0))
    budgets = (point(0.25, -0.02), point(1.0, -0.045), point(2.0, -0.04))
    found = evidence_of(rank_curve=ranks, budget_curve=budgets)
    assert found.reference == ranks[1]
    assert found.overfitted
    assert not evidence_of().overfitted
    assert found.required_part(0.05) == pytest.approx(0.95 * 1.25)
    assert evidence_of().required_part(0.05) == pytest.approx(0.95)
    assert found.sufficient_rank(0.05) == 2, (
        "0.05 x 0.25 nats are allowed, and rank 1 loses 0.04 of them"
    )
    budget = found.sufficient_budget(0.05)
    assert budget is not None
    assert budget.at == 1.0, "it loses 0.005 + 0.00164"
    assert found.sufficient_budget(0.02) is None
    unsure = (
        point(1, -0.01, 0.05),
        point(2, -0.05, 0.05),
        point(4, -0.001, 0.01),
        point(8, 0.0, 0.0),
    )
    assert evidence_of(rank_curve=unsure).reference.at == 8, (
        "luck is no over-fitting: the whole model is the measure"
    )
    assert evidence_of(rank_curve=unsure).sufficient_rank(0.05) == 8


def test_a_larger_budget_that_is_over_fitted_hides_no_smaller_one() -> None:
    ranks = (point(1, -0.1), point(8, 0.0, 0.0))
    budgets = (point(0.25, -0.04), point(0.5, -0.098), point(1.0, -0.11), point(2.0, -0.06))
    found = evidence_of(rank_curve=ranks, budget_curve=budgets).sufficient_budget(0.05)
    assert found is not None
    assert found.at == 0.5, "the budget of 2 loses 0.04 of the 0.3 nats that rank 1 gains"


def test_a_budget_is_enough_likewise_and_none_may_be() -> None:
    found = evidence_of().sufficient_budget(0.05)
    assert found is not None
    assert found.at == 0.5
    assert evidence_of(budget_curve=(point(2.0, 0.1),)).sufficient_budget(0.05) is None
    assert evidence_of(budget_curve=()).sufficient_budget(0.05) is None, "no budget was measured"


def test_where_lora_has_learned_nothing_no_rank_is_enough() -> None:
    nothing = evidence_of(gain=0.019)  # below two standard errors
    assert not nothing.learned
    assert nothing.sufficient_rank(0.05) is None
    assert nothing.sufficient_budget(0.05) is None


def test_the_smallest_rank_that_keeps_a_part_by_the_estimate_itself() -> None:
    kept = evidence_of(
        rank_curve=(point(1, 0.0), point(2, 0.02), point(4, 0.001, 0.1), point(8, 0.0, 0.0))
    )
    assert [kept.keeping(part) for part in (0.99, 0.95, 0.9, 1.0, 1.1)] == [4, 4, 1, 8, None]
    assert evidence_of(gain=0.019).keeping(0.5) is None
