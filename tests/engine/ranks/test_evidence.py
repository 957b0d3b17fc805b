"""What was measured: how many ranks are enough, and the keys of ranks.json."""

import dataclasses
import json
import math
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.ranks.evidence import from_json, interval, to_json, too_few
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
    alike = dataclasses.replace(point(4, 0.008, 0.0), kept_standard_error=0.02)  # every row loses 0.008
    assert evidence_of(rank_curve=(alike, point(8, 0.0, 0.0))).sufficient_rank(0.05) == 8
    assert evidence_of(budget_curve=(alike,)).sufficient_budget(0.05) is None
    for error, enough in ((0.0061, 4), (0.0062, 8)):  # 0.96 - 1.64 x 0.0061 = 0.94999...
        curve = (dataclasses.replace(alike, kept_standard_error=error), point(8, 0.0, 0.0))
        low, _ = interval(curve[0].kept, error)
        assert evidence_of(rank_curve=curve).sufficient_rank(0.0500041) == enough
        assert (low >= 1 - 0.0500041) is (enough == 4)


def test_the_interval_reaches_164_standard_errors_to_either_side() -> None:
    assert interval(1.0, 0.1) == pytest.approx((0.836, 1.164))


def test_beside_an_over_fitted_model_the_error_of_what_the_best_rank_gains_counts_too() -> None:
    curve = [point(1, -0.039), point(2, -0.05, 0.002), point(4, -0.048, 0.0), point(8, 0.0, 0.01)]
    curve[1] = dataclasses.replace(curve[1], standard_error=0.0)
    found = evidence_of(rank_curve=tuple(curve))
    assert found.overfitted
    # Rank 1 loses 0.011 of 0.25, 4.4 %. Of how its rows vary, an older record tells only the largest error possible.
    assert found.sufficient_rank(0.05) == 2
    # It is (0.001 + 0.044 x (0.01 + 0.01)) / 0.25, so that rank 1 surely keeps 1 - 0.044 - 1.64 x 0.00752 = 0.94367.
    assert [found.sufficient_rank(allowed) for allowed in (0.0563, 0.0564)] == [2, 1]
    # A budget that gains more than rank 2, 0.06: 1 + 0.04 - 1.64 x (0.03 + 0.04 x 0.02) / 0.25 = 0.83795.
    better = dataclasses.replace(found, budget_curve=(point(0.5, -0.06, 0.03),))
    assert better.sufficient_budget(0.162) is None
    assert better.sufficient_budget(0.1621) is not None
    for error, enough in ((0.003, 1), (0.004, 2)):  # 0.956 - 1.64 x 0.003 > 0.95
        told = (dataclasses.replace(curve[0], reference_kept_standard_error=error), *curve[1:])
        assert evidence_of(rank_curve=told).sufficient_rank(0.05) == enough


def test_over_fitted_cuts_are_compared_with_the_best_rank() -> None:
    """On QQP a quarter of rank 1 was enough, as it kept 110 % of the gain; rank 1 kept 122 %, and trainings at the
    quarter lost 24 %."""
    ranks = (point(1, -0.01), point(2, -0.05), point(4, -0.02), point(8, 0.0, 0.0))
    budgets = (point(0.25, -0.02), point(1.0, -0.045), point(2.0, -0.04))
    found = evidence_of(rank_curve=ranks, budget_curve=budgets)
    assert found.reference == ranks[1]
    assert found.overfitted
    assert not evidence_of().overfitted
    assert found.required_part(0.05) == pytest.approx(0.95 * 1.25)
    assert evidence_of().required_part(0.05) == pytest.approx(0.95)
    assert found.sufficient_rank(0.05) == 2, "0.05 x 0.25 nats are allowed, and rank 1 loses 0.04 of them"
    budget = found.sufficient_budget(0.05)
    assert budget is not None
    assert budget.at == 1.0, "it loses 0.005 + 0.00164"
    assert found.sufficient_budget(0.02) is None
    unsure = (point(1, -0.01, 0.05), point(2, -0.05, 0.05), point(4, -0.001, 0.01), point(8, 0.0, 0.0))
    assert evidence_of(rank_curve=unsure).reference.at == 8, "luck is no over-fitting: the whole model is the measure"
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
    overfitted = evidence_of(rank_curve=(point(1, -0.1), point(8, 0.0, 0.0)), budget_curve=())
    assert overfitted.sufficient_budget(0.05) is None, "no budget was measured"


@pytest.mark.parametrize(
    ("loss", "gain", "without", "solved"),
    [
        (0.04, 0.001, "head alone", "the head alone already solves this task; LoRA is not needed"),
        (0.001, 0.0, "base model", "the base model already solves this task; LoRA is not needed"),
        (-1e-7, 0.0, "head alone", "the head alone already solves this task; LoRA is not needed"),
        (0.049, 0.001, "head alone", ""),
        (0.01, 0.03, "head alone", ""),  # LoRA has learned something
        (0.3, -0.29, "head alone", "the head alone already solves this task; LoRA is not needed"),
        (-0.4, 0.0, "head alone", ""),  # a regression
        (math.nan, 0.0, "head alone", ""),
    ],
)
def test_a_task_with_hardly_any_loss_left_is_solved_without_lora(
    loss: float, gain: float, without: str, solved: str
) -> None:
    """On such a task the program proposed longer and longer searches."""
    assert evidence_of(loss=loss, gain=gain, without=without).solved == solved


def test_no_loss_of_a_regression_says_that_it_is_solved() -> None:
    """It depends on the labels' unit: with an error of a quarter of a unit it is 0.03 nats."""
    assert evidence_of(loss=0.03, gain=0.0001, regression=True).solved == ""


@pytest.mark.parametrize(
    ("loss", "gain", "error", "slight"),
    [
        (10.8, 0.0004, 0.0001, True),
        (10.8, 0.0004, 0.0003, False),  # not sure: then LoRA has learned nothing
        (1.0, 0.009, 0.001, True),
        (1.0, 0.01005, 0.001, True),  # 1 % of the loss without LoRA, 1.01005
        (1.0, 0.011, 0.001, False),
        (11.0, 0.1, 0.01, False),  # a regression of large numbers: 18 % less squared error
        (-0.4, 0.1, 0.01, False),  # a regression
        (math.nan, 0.1, 0.01, False),
    ],
)
def test_a_sure_gain_below_1_percent_of_the_loss_is_slight(
    loss: float, gain: float, error: float, slight: bool
) -> None:
    assert evidence_of(loss=loss, gain=gain, gain_standard_error=error).slight == slight


def test_a_task_with_hardly_any_loss_left_is_solved_also_where_the_gain_is_sure_but_slight() -> None:
    solved = evidence_of(loss=0.04, gain=0.0003, gain_standard_error=0.0001).solved
    assert solved == "the head alone already solves this task; LoRA is not needed"
    assert evidence_of(loss=0.04, gain=0.005, gain_standard_error=0.0001).solved == ""


def test_a_number_that_is_not_finite_is_seen() -> None:
    assert evidence_of().finite
    assert not evidence_of(fall=float("nan")).finite
    assert not evidence_of(budget_curve=(point(0.5, float("inf")),)).finite


def test_where_lora_has_learned_nothing_no_rank_is_enough() -> None:
    nothing = evidence_of(gain=0.019)  # below two standard errors
    assert not nothing.learned
    assert nothing.sufficient_rank(0.05) is None
    assert nothing.sufficient_budget(0.05) is None


def test_what_is_written_is_read_again() -> None:
    best = dataclasses.replace(point(1, -0.1), reference_kept_standard_error=0.01)
    overfitted = evidence_of(rank_curve=(best, point(8, 0.0, 0.0)))
    for evidence in (evidence_of(), evidence_of(gain=0.001), evidence_of(budget_curve=()), overfitted):
        raw = json.loads(json.dumps(to_json(evidence, 0.05)))
        found = from_json(raw, "ranks.json")
        assert found == (evidence, 0.05)
        assert found is not None
        assert from_json(json.loads(json.dumps(to_json(*found))), "ranks.json") == found, "written once more"
    assert json.loads(json.dumps(to_json(evidence_of(), 0.05)))["sufficient_rank"] == 2
    assert from_json({"k": 8}, "ranks.json") is None


@pytest.mark.parametrize(
    "change",
    [
        {"rank_curve": 3}, {"rank_curve": [{"rank": "two"}]}, {"gain": None}, {"rows": "many"}, {"gain": True},
        {"tolerance": 7}, {"tolerance": 1.0}, {"tolerance": None}, {"tolerance": 10**400}, {"gain": 10**400},
        {"budget_curve": [[1]]}, {"nodes": 1.5}, {"loss": float("nan")}, {"rank_curve": []},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_record_is_refused_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"ranks\.json: ") as refused:
        from_json(to_json(evidence_of(), 0.05) | change, "ranks.json")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("curve", "places", "said"),
    [
        ("rank", [1.5], r"rank_curve: rank is 1\.5; allowed: a whole number from 1"),
        ("rank", [0], "rank_curve: rank is 0; allowed"),
        ("rank", [True], "rank_curve: rank is True; allowed"),
        ("rank", [2, 4, 2], "rank_curve: two points have the same rank"),
        ("budget", [0.5, 0.5], "budget_curve: two points have the same budget"),
    ],
)
def test_a_point_at_no_rank_and_two_points_at_one_place_are_refused(curve: str, places: list[Any], said: str) -> None:
    raw = to_json(evidence_of(), 0.05)
    (first, *_) = raw[f"{curve}_curve"]
    with pytest.raises(UserError, match=rf"^ranks\.json: .*{said}"):
        from_json(raw | {f"{curve}_curve": [first | {curve: at} for at in places]}, "ranks.json")


def test_points_are_named_by_their_curve() -> None:
    raw = to_json(evidence_of(), 0.05)
    assert raw["rank_curve"][0]["rank"] == 1
    assert raw["budget_curve"][0] == {"budget": 0.25, "parameters": 100} | {
        key: value
        for key, value in dataclasses.asdict(point(0.25, 0.1, 0.01)).items()
        if key not in ("at", "parameters") and value is not None
    }


def test_rows_of_one_source_count_as_one_of_the_rows_that_an_answer_needs() -> None:
    assert too_few(400, 200) == too_few(200, 200) == ""
    assert too_few(400, 50).startswith("400 rows of D_val from 50 sources are too few for a sure answer")
    assert evidence_of(rows=400, sources=50).few == too_few(400, 50)
    assert too_few(50, 50) == "50 rows of D_val are too few for a sure answer (200 are needed)"


def test_without_sources_each_row_counts_as_its_own() -> None:
    content = to_json(evidence_of(rows=1000, sources=400), 0.05)
    del content["sources"]
    found = from_json(content, "x")
    assert found is not None
    assert found[0] == evidence_of(rows=1000, sources=1000)
