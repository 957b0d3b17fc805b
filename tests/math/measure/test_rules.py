"""Ranks by each rule: thresholds and budgets, from stored evidence alone."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autolora.configs.errors import UserError
from autolora.configs.measure import RuleConfig, Shares, Size, Threshold
from autolora.engine.measure.bases import parameters_of
from autolora.engine.measure.evidence import CurvePoint, Evidence
from autolora.engine.ranks.record import (
    NOTHING_LEARNED,
    LayerRank,
    RankRecord,
    kept_components,
    thresholds,
)
from autolora.engine.ranks.rules import rule_of
from autolora.problems.bilevel import SelectionVariables
from tests.helpers.evidence import evidence_of, point


@pytest.mark.parametrize("k", [1, 3, 6, 7, 8, 16])
@pytest.mark.parametrize("constraint", ["softmax", "sigmoid", "none"])
def test_at_the_uniform_start_every_component_is_kept(constraint: Any, k: int) -> None:
    variables = SelectionVariables(2, k, constraint)
    for shift in (0.0, 0.3, -7.7):  # softmax does not see a shift; its rounding does
        if constraint == "softmax":
            variables.beta.data.fill_(shift)
        assert kept_components(variables.alpha().detach(), constraint).all()


@pytest.mark.parametrize("k", [3, 6, 7, 8])
def test_a_rounding_error_below_lambda_is_lambda_and_more_is_not(k: int) -> None:
    uniform = torch.full((1, k), 1 / k)
    just_below = torch.nextafter(uniform, torch.zeros(1))
    assert (just_below < thresholds(uniform, "softmax")).all()
    assert kept_components(just_below, "softmax").all()
    clearly_below = uniform * (1 - 1e-4)
    assert not kept_components(clearly_below, "softmax").any()
    # The mean of k equal numbers may come out above each of them.
    for value in torch.linspace(-2, 2, 201).tolist():
        assert kept_components(torch.full((1, k), value), "none").all()


def test_the_thresholds_are_those_of_the_paper() -> None:
    alpha = torch.tensor([[0.7, 0.25, 0.03, 0.02], [0.26, 0.26, 0.24, 0.24]])
    assert thresholds(alpha, "softmax").flatten().tolist() == [0.25, 0.25]
    assert kept_components(alpha, "softmax").tolist() == [
        [True, True, False, False],
        [True, True, False, False],
    ]
    assert kept_components(torch.tensor([[0.5, 0.499, 0.9, 0.0]]), "sigmoid").tolist() == [
        [True, False, True, False]
    ]
    assert (
        kept_components(alpha.numpy(), "softmax").tolist()
        == kept_components(alpha, "softmax").tolist()
    )
    free = torch.tensor([[2.0, 1.0, -3.0, 4.0], [-1.0, -2.0, -3.0, -2.0]])
    assert thresholds(free, "none").flatten().tolist() == [1.0, -2.0]
    assert kept_components(free, "none").tolist() == [
        [True, True, False, True],
        [True, True, False, True],
    ]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=16))
def test_softmax_and_none_keep_one_component_at_least(beta: list[float]) -> None:
    values = torch.tensor([beta])
    assert kept_components(values.softmax(dim=1), "softmax").any()
    assert kept_components(values, "none").any()


def test_a_budget_is_the_parameters_of_uniform_ranks() -> None:
    assert parameters_of(2.5, [10, 30]) == 100
    # As floats 28.999999999999996 and 1.7 x 3 = 5.1.
    assert parameters_of(0.29, [1] * 100) == 29
    assert parameters_of(1.7, [1, 2]) == 5


SIZES = {"a": 10, "b": 10, "c": 40}


def chosen(record: RankRecord, settings: RuleConfig, sizes: dict[str, int]) -> RankRecord:
    return rule_of(settings, sizes).choose(record)


def record_of(evidence: Evidence | None = None, **changes: Any) -> RankRecord:
    """Three layers of three components; the large layer c needs four times the share for the same
    worth."""
    shares = {"a": (0.10, 0.05, 0.001), "b": (0.02, 0.03, -0.01), "c": (0.20, 0.01, 0.0)}
    layers = tuple(
        LayerRank(
            name,
            0,
            alpha=(0.5, 0.3, 0.2),
            contribution=(1.0, 1.0, 1.0),
            singular_values=(3.0, 2.0, 1.0),
            share=share,
            share_standard_error=(0.004,) * 3,
            layer_share=sum(share),
            layer_share_standard_error=0.01,
        )
        for name, share in shares.items()
    )
    found = evidence or evidence_of()
    used = {100: 15, 200: 30, 400: 60}  # evidence_of is about larger layers
    curve = (
        dataclasses.replace(one, parameters=used.get(one.parameters or 0, one.parameters))
        for one in found.budget_curve
    )
    return RankRecord(
        3, layers, evidence=dataclasses.replace(found, budget_curve=tuple(curve)), **changes
    )


def ranks_of(settings: RuleConfig, **changes: Any) -> list[int]:
    return [layer.rank for layer in chosen(record_of(**changes), settings, SIZES).layers]


def test_the_threshold_looks_at_alpha_alone() -> None:
    found = chosen(record_of(), Threshold(), SIZES)
    assert [layer.rank for layer in found.layers] == [1, 1, 1]  # lambda is 1/3
    assert (found.rule, found.budget, found.note) == ("threshold", None, None)
    assert found.threshold == pytest.approx(1 / 3)


def test_shares_are_taken_by_worth_per_parameter_within_the_budget() -> None:
    # Per parameter: a 0.01, 0.005, 0.0001; c 0.005, 0.00025; b 0.003, 0.002. Other shares are not
    # above their errors.
    assert ranks_of(Shares(budget=0.5)) == [2, 1, 0]  # 30 parameters
    # 40; by the share itself it would be c alone
    assert ranks_of(Shares(budget=2 / 3)) == [2, 2, 0]
    assert ranks_of(Shares(budget=1.0)) == [2, 0, 1]  # 60: a, a, c
    found = chosen(record_of(), Shares(budget=2.0), SIZES)
    assert [layer.rank for layer in found.layers] == [2, 2, 2]
    assert found.lora_parameters == 120
    assert not found.note  # all of the budget
    with_rest = chosen(record_of(), Shares(budget=3.0), SIZES)
    assert [layer.rank for layer in with_rest.layers] == [2, 2, 2], (
        "the third share of a is below its error"
    )


def test_auto_is_the_smallest_budget_that_is_enough() -> None:
    found = chosen(record_of(), Shares(), SIZES)
    assert found.budget == 30  # 0.5, see test_evidence
    none = evidence_of(
        budget_curve=(point(2.0, 0.15, 0.001, 120),),
        rank_curve=(point(1, 0.05), point(3, 0.0, 0.0)),
    )
    found = chosen(record_of(none), Shares(), SIZES)
    assert [layer.rank for layer in found.layers] == [2, 2, 2], (
        "all whose share exceeds its standard error"
    )
    assert found.budget is None
    assert str(found.note).startswith("no budget up to an average rank of 2 is enough")


@pytest.mark.parametrize(
    ("budgets", "ranks"),
    [
        ((point(2.0, 0.15),), [1, 1, 1]),  # no budget is enough, but rank 1 in every layer is
        ((point(2.0, 0.0),), [1, 1, 1]),  # it takes fewer parameters than the budget that is enough
        ((point(2.0, 0.0, 0.0, 50),), None),  # the components do not use the budget up
        ((point(1.0, 0.0), point(2.0, 0.0)), None),  # at a tie the places are learned
        ((point(0.5, 0.0), point(2.0, 0.0)), None),
    ],
)
def test_auto_is_one_rank_in_every_layer_if_that_is_enough_with_fewer_parameters(
    budgets: tuple[CurvePoint, ...], ranks: list[int] | None
) -> None:
    """On SST-2 components all over the layers had been taken, and kept 74 % of the gain, where rank
    2 kept all."""
    enough = (point(1, 0.0), point(3, 0.0, 0.0))
    record = record_of(evidence_of(budget_curve=budgets, rank_curve=enough))
    found = chosen(record, Shares(), SIZES)
    said = "rank 1 in every layer is enough on D_val" in str(found.note)
    assert said is (ranks is not None)
    assert found.budget == (None if ranks else 60 * min(one.at for one in budgets))
    assert ranks is None or [layer.rank for layer in found.layers] == ranks
    if ranks:
        assert found.rule == "curve"
    numbered = chosen(record, Shares(budget=2.0), SIZES)
    assert numbered.budget == 120, "a budget of the user's is kept"


def test_size_needs_no_shares_and_goes_by_the_squared_singular_value() -> None:
    record = record_of()
    bare = dataclasses.replace(
        record,
        evidence=None,
        layers=tuple(
            dataclasses.replace(x, share=(), share_standard_error=()) for x in record.layers
        ),
    )
    found = chosen(bare, Size(budget=0.5), SIZES)
    # 9, 9, 4 per 10 parameters; c has 9 per 40
    assert [layer.rank for layer in found.layers] == [2, 1, 0]
    found = chosen(bare, Size(budget=1.5), SIZES)
    assert [layer.rank for layer in found.layers] == [3, 2, 1], (
        "by the singular value itself c would have none"
    )
    with pytest.raises(UserError, match=r"--choose.rule: size needs what is measured on D_val"):
        chosen(bare, Size(), SIZES)
    for budget in ("auto", 0.5):
        with pytest.raises(
            UserError, match=r"--choose.rule: shares needs what is measured on D_val, .* allowed"
        ):
            chosen(bare, Shares(budget=budget), SIZES)


def test_where_lora_has_learned_nothing_every_layer_has_rank_1_and_the_record_says_why() -> None:
    nothing = evidence_of(gain=0.001)
    found = chosen(record_of(nothing), Shares(), SIZES)
    assert [layer.rank for layer in found.layers] == [1, 1, 1]
    assert NOTHING_LEARNED in str(found.note)
    assert NOTHING_LEARNED in str(chosen(record_of(nothing), Threshold(), SIZES).note)
