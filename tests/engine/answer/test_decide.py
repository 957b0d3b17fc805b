"""Ranks by each rule, from stored evidence alone."""

import dataclasses
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema_answer import AnswerConfig
from autolora.engine.answer.decide import decided
from autolora.engine.ranks.evidence import CurvePoint, Evidence
from autolora.engine.ranks.record import LayerRank, RankRecord, chosen_components
from tests.helpers.evidence import evidence_of, point

SIZES = {"a": 10, "b": 10, "c": 40}


def record_of(evidence: Evidence | None = None, **changes: Any) -> RankRecord:
    """Three layers of three components; the large layer c needs four times the share for the same worth."""
    shares = {"a": (0.10, 0.05, 0.001), "b": (0.02, 0.03, -0.01), "c": (0.20, 0.01, 0.0)}
    layers = tuple(
        LayerRank(
            name, 0, alpha=(0.5, 0.3, 0.2), contribution=(1.0, 1.0, 1.0), singular_values=(3.0, 2.0, 1.0), share=share,
            share_standard_error=(0.004,) * 3, layer_share=sum(share), layer_share_standard_error=0.01, decided=True,
        )
        for name, share in shares.items()
    )  # fmt: skip
    found = evidence or evidence_of()
    used = {100: 15, 200: 30, 400: 60}  # evidence_of is about larger layers
    curve = (dataclasses.replace(one, parameters=used.get(one.parameters or 0, one.parameters))
             for one in found.budget_curve)  # fmt: skip
    return RankRecord(3, layers, evidence=dataclasses.replace(found, budget_curve=tuple(curve)), **changes)


def ranks_of(settings: AnswerConfig, **changes: Any) -> list[int]:
    return [layer.rank for layer in decided(record_of(**changes), settings, SIZES).layers]


def test_the_threshold_looks_at_alpha_alone() -> None:
    found = decided(record_of(), AnswerConfig(rule="threshold"), SIZES)
    assert [layer.rank for layer in found.layers] == [1, 1, 1]  # lambda is 1/3
    assert (found.rule, found.budget, found.note) == ("threshold", None, None)
    assert found.threshold == pytest.approx(1 / 3)
    assert all(layer.decided for layer in found.layers)


def test_shares_are_taken_by_worth_per_parameter_within_the_budget() -> None:
    # Per parameter: a 0.01, 0.005, 0.0001; c 0.005, 0.00025; b 0.003, 0.002. Other shares are not above 0.
    assert ranks_of(AnswerConfig(rule="shares", budget=0.5)) == [2, 1, 0]  # 30 parameters
    assert ranks_of(AnswerConfig(rule="shares", budget=1.0)) == [2, 0, 1]  # 60: a, a, c
    found = decided(record_of(), AnswerConfig(rule="shares", budget=2.0), SIZES)
    assert [layer.rank for layer in found.layers] == [2, 2, 2]
    assert found.lora_parameters == 120
    assert not found.note  # all of the budget
    assert all(layer.decided is None for layer in found.layers)
    with_rest = decided(record_of(), AnswerConfig(rule="shares", budget=3.0), SIZES)
    told = "of the budget's 180 LoRA parameters are used: no other component has a share above 0"
    assert [layer.rank for layer in with_rest.layers] == [3, 2, 2]
    assert str(with_rest.note) == f"130 {told}"


def test_layers_that_keep_a_component_though_their_share_may_be_noise_are_counted() -> None:
    sure = record_of()
    doubtful = dataclasses.replace(sure.layers[1], layer_share_standard_error=0.03)
    record = dataclasses.replace(sure, layers=(sure.layers[0], doubtful, sure.layers[2]))
    words = "1 of the 3 layers with LoRA has a share that may be noise (less than 2 standard errors above 0)"
    assert decided(record, AnswerConfig(rule="shares", budget=2.0), SIZES).note == words
    assert decided(record, AnswerConfig(rule="shares", budget=0.25), SIZES).note is None, "b keeps none"


def test_a_rest_of_the_budget_that_none_of_the_others_fits_is_told_as_that() -> None:
    # By size a and b are used up at 60 parameters, and 30 do not hold one of c, which is larger than noise as well.
    found = decided(record_of(), AnswerConfig(rule="size", budget=1.5), {"a": 10, "b": 10, "c": 40})
    assert [layer.rank for layer in found.layers] == [3, 2, 1]
    small = decided(record_of(), AnswerConfig(rule="size", budget=1.7), {"a": 1, "b": 1, "c": 40})
    assert [layer.rank for layer in small.layers] == [3, 3, 1]
    assert small.note == "46 of the budget's 71 LoRA parameters are used: none of the others fits"


def test_the_sizes_are_found_by_name_in_a_record_of_another_order() -> None:
    record = record_of()
    turned = dataclasses.replace(record, layers=record.layers[::-1])
    for rule, budget in (("shares", 0.5), ("shares", 1.0), ("size", 1.4)):
        settings = AnswerConfig(rule=rule, budget=budget)  # type: ignore[arg-type]
        found, expected = decided(turned, settings, SIZES), decided(record, settings, SIZES)
        assert {x.name: x.rank for x in found.layers} == {x.name: x.rank for x in expected.layers}


def test_where_no_component_can_be_taken_every_layer_has_rank_1_and_no_budget_is_claimed() -> None:
    record = record_of()
    silent = dataclasses.replace(
        record, layers=tuple(dataclasses.replace(x, share=(0.0, -0.1, 0.0)) for x in record.layers)
    )
    found = decided(silent, AnswerConfig(rule="shares", budget=0.5), SIZES)
    assert [layer.rank for layer in found.layers] == [1, 1, 1]
    assert (found.budget, found.lora_parameters) == (None, 60)
    more = "every layer has rank 1 (60 LoRA parameters, more than the budget's 30)"
    assert found.note == f"no component has a share above 0: {more}"
    found = decided(silent, AnswerConfig(rule="shares", budget=2.0), SIZES)
    assert found.note == "no component has a share above 0: every layer has rank 1"
    nothing = evidence_of(budget_curve=(point(2.0, 0.15),), rank_curve=(point(1, 0.05), point(3, 0.0, 0.0)))
    found = decided(dataclasses.replace(silent, evidence=nothing), AnswerConfig(rule="shares"), SIZES)
    assert str(found.note).endswith("no component has a share above 0: every layer has rank 1"), "without a limit"
    only_c = dataclasses.replace(record, layers=(*silent.layers[:2], record.layers[2]))
    found = decided(only_c, AnswerConfig(rule="shares", budget=0.5), SIZES)  # 30 parameters
    assert found.note == f"no component fits into the budget: {more}"


def test_where_no_alpha_reaches_the_threshold_every_layer_has_rank_1() -> None:
    """As a search with constraint sigmoid may end; the export failed with a traceback."""
    record = dataclasses.replace(record_of(), constraint="sigmoid")
    low = tuple(dataclasses.replace(layer, alpha=(0.4,) * 3) for layer in record.layers)
    found = decided(dataclasses.replace(record, layers=low), AnswerConfig(rule="threshold"), SIZES)
    assert [layer.rank for layer in found.layers] == [1, 1, 1]
    assert str(found.note).endswith("no alpha reaches the threshold: every layer has rank 1")


def test_auto_needs_a_measured_budget() -> None:
    record = record_of(evidence_of(budget_curve=()))
    with pytest.raises(UserError, match=r"--answer\.budget: auto needs the curve of budgets by rule shares"):
        decided(record, AnswerConfig(rule="shares"), SIZES)


def test_exactly_the_components_that_were_taken_are_found_again() -> None:
    found = decided(record_of(), AnswerConfig(rule="shares", budget=0.5), SIZES)
    # Of b the second component has the larger share.
    assert {layer.name: chosen_components(layer, found) for layer in found.layers} == {"a": [0, 1], "b": [1], "c": []}
    by_size = decided(record_of(), AnswerConfig(rule="size", budget=0.5), SIZES)
    assert {layer.name: chosen_components(layer, by_size) for layer in by_size.layers}["b"] == [0]


def test_auto_is_the_smallest_budget_that_is_enough() -> None:
    found = decided(record_of(), AnswerConfig(rule="shares"), SIZES)
    assert found.budget == 30  # 0.5, see test_evidence
    none = evidence_of(budget_curve=(point(2.0, 0.15, 0.001, 120),), rank_curve=(point(1, 0.05), point(3, 0.0, 0.0)))
    found = decided(record_of(none), AnswerConfig(rule="shares"), SIZES)
    assert [layer.rank for layer in found.layers] == [3, 2, 2], "all whose share is above 0"
    assert found.budget is None
    assert found.note == (
        "no budget up to an average rank of 2 is enough: all components are taken whose share is above 0, of which "
        "many may be noise; the simpler choice is the largest rank in every layer (--method lora)"
    )


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
    """On SST-2 components all over the layers had been taken, and kept 74 % of the gain, where rank 2 kept all."""
    enough = (point(1, 0.0), point(3, 0.0, 0.0))
    record = record_of(evidence_of(budget_curve=budgets, rank_curve=enough))
    found = decided(record, AnswerConfig(rule="shares"), SIZES)
    said = "rank 1 in every layer is enough on D_val" in str(found.note)
    assert said is (ranks is not None)
    assert found.budget == (None if ranks else 60 * min(one.at for one in budgets))
    assert ranks is None or [layer.rank for layer in found.layers] == ranks
    if ranks:
        assert found.rule == "curve"
        kept = [chosen_components(layer, found) for layer in found.layers]
        assert kept == [[0], [0], [0]], "the first component of each layer, as on the curve"
    numbered = decided(record, AnswerConfig(rule="shares", budget=2.0), SIZES)
    assert numbered.budget == 120, "a budget of the user's is kept"


def test_size_needs_no_shares_and_goes_by_the_squared_singular_value() -> None:
    record = record_of()
    bare = dataclasses.replace(
        record, evidence=None,
        layers=tuple(dataclasses.replace(x, share=(), share_standard_error=()) for x in record.layers),
    )  # fmt: skip
    found = decided(bare, AnswerConfig(rule="size", budget=0.5), SIZES)
    assert [layer.rank for layer in found.layers] == [2, 1, 0]  # 9, 9, 4 per 10 parameters; c has 9 per 40
    with pytest.raises(UserError, match=r"--answer.budget: auto needs the curve of budgets by rule size"):
        decided(bare, AnswerConfig(rule="size"), SIZES)
    for budget in ("auto", 0.5):
        with pytest.raises(UserError, match=r"--answer.rule: shares are measured on D_val, .* allowed"):
            decided(bare, AnswerConfig(rule="shares", budget=budget), SIZES)


def test_where_lora_has_learned_nothing_every_layer_has_rank_1_and_the_record_says_why() -> None:
    nothing = evidence_of(gain=0.001)
    found = decided(record_of(nothing), AnswerConfig(rule="shares"), SIZES)
    assert [layer.rank for layer in found.layers] == [1, 1, 1]
    assert "has not learned anything that shows on D_val" in str(found.note)
    by_threshold = decided(record_of(nothing), AnswerConfig(rule="threshold"), SIZES)
    assert [layer.rank for layer in by_threshold.layers] == [1, 1, 1]
    assert "has not learned anything" in str(by_threshold.note)  # the paper's ranks stand; it is said


def test_few_rows_are_told() -> None:
    assert "too few for a sure" in str(decided(record_of(evidence_of(sources=199)), AnswerConfig(), SIZES).note)
    assert decided(record_of(evidence_of(sources=200)), AnswerConfig(), SIZES).note is None
    few = decided(record_of(evidence_of(rows=32, sources=32, gain=0.0)), AnswerConfig(rule="shares"), SIZES)
    assert str(few.note).startswith("32 rows of D_val are too few for a sure answer (200 are needed)")


def test_a_budget_without_room_for_one_component_is_refused() -> None:
    with pytest.raises(UserError, match=r"--answer.budget: 0.1 is not allowed for this model; allowed: 0.167 or more"):
        decided(record_of(), AnswerConfig(rule="shares", budget=0.1), SIZES)


def test_shares_that_miss_the_fall_of_the_loss_are_called_inexact() -> None:
    note = decided(
        record_of(evidence_of(share_total=1.2, head_share=-0.3, fall=1.0, nodes=6)), AnswerConfig(), SIZES
    ).note
    assert note == "the shares are inexact: with that of the head they sum to 0.9 nats, but the loss falls by 1"
    assert (
        decided(
            record_of(evidence_of(share_total=0.885, head_share=0.1, fall=1.0, nodes=6)), AnswerConfig(), SIZES
        ).note
        is None
    )


def test_what_shares_may_miss_is_a_part_of_the_fall() -> None:
    note = decided(
        record_of(evidence_of(share_total=0.09, head_share=0.0, fall=0.1, nodes=6)), AnswerConfig(), SIZES
    ).note
    assert note is not None
    assert note.startswith("the shares are inexact"), "0.01 of 0.1 nats is a tenth, more than 2 %"


def test_shares_within_the_gap_that_bf16_allows_are_not_called_inexact() -> None:
    evidence = evidence_of(share_total=0.975, head_share=0.0, fall=1.0, nodes=6, allowed_gap=0.03)
    assert decided(record_of(evidence), AnswerConfig(), SIZES).note is None


def test_at_3_nodes_the_shares_are_not_called_inexact() -> None:
    """In bf16 more nodes would not help, and complete() allows a gap of 3 %."""
    evidence = evidence_of(share_total=0.975, head_share=0.0, fall=1.0, nodes=3)
    assert decided(record_of(evidence), AnswerConfig(), SIZES).note is None


@pytest.mark.parametrize("rule", ["threshold", "shares", "size"])
def test_the_record_keeps_the_tolerance_that_was_asked_for(rule: Any) -> None:
    assert decided(record_of(), AnswerConfig(rule=rule, budget=1.0, tolerance=0.2), SIZES).tolerance == 0.2


def test_where_lora_has_learned_nothing_rule_size_gives_rank_1_too() -> None:
    found = decided(record_of(evidence_of(gain=0.001)), AnswerConfig(rule="size", budget=2.0), SIZES)
    assert [layer.rank for layer in found.layers] == [1, 1, 1]
    assert "has not learned anything that shows on D_val" in str(found.note)


def test_a_rest_that_holds_exactly_one_more_component_is_told() -> None:
    found = decided(record_of(), AnswerConfig(rule="shares", budget=140 / 60), SIZES)
    assert found.note == "130 of the budget's 140 LoRA parameters are used: no other component has a share above 0"


def test_the_worth_of_a_component_is_per_parameter() -> None:
    # 30 parameters of 0.05 together are worth less than one of c, 0.10; per parameter they are worth more.
    record = record_of()
    shares = {"a": (0.02, 0.02, 0.0), "b": (0.02, 0.02, 0.0), "c": (0.06, 0.0, 0.0)}
    record = dataclasses.replace(
        record,
        layers=tuple(
            dataclasses.replace(x, share=shares[x.name], share_standard_error=(0.001,) * 3) for x in record.layers
        ),
    )
    found = decided(record, AnswerConfig(rule="shares", budget=40 / 60), SIZES)
    assert [layer.rank for layer in found.layers] == [2, 2, 0]
