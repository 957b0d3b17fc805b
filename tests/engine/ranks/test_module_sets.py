"""Sets of module types at equal cost: which layers, which rank, in which order they are tried."""

import pytest

from autolora.configs.errors import UserError
from autolora.engine.ranks.module_sets import module_sets

# Two blocks; a rank of query or value takes 20 numbers in a layer, one of up 50.
SHAPES = {
    f"m.layer.{block}.{kind}": shape
    for block in (0, 1)
    for kind, shape in (("att.query", (10, 10)), ("att.value", (10, 10)), ("up", (40, 10)))
}


def test_types_are_the_columns_of_the_rank_map() -> None:
    sets = module_sets(SHAPES, 360)
    assert sets.kinds == {
        "query": ["m.layer.0.att.query", "m.layer.1.att.query"],
        "value": ["m.layer.0.att.value", "m.layer.1.att.value"],
        "up": ["m.layer.0.up", "m.layer.1.up"],
    }
    assert sets.alone() == [{"query": 9}, {"value": 9}, {"up": 3}]
    assert sets.joined(["value", "up", "query"]) == [{"value": 2, "up": 2}, {"value": 2, "up": 2, "query": 2}]


def test_the_rank_of_a_set_is_the_largest_within_the_budget() -> None:
    record = module_sets(SHAPES, 359).record({"query": 8}, k=4)
    assert [layer.rank for layer in record.layers] == [8, 0, 0, 8, 0, 0]
    assert [layer.name for layer in record.layers] == list(SHAPES)
    assert (record.k, record.rule) == (4, "modules")
    assert record.note == "39 LoRA parameters below the budget"
    assert module_sets(SHAPES, 320).record({"query": 8}, k=4).note is None
    assert module_sets(SHAPES, 10_000).alone()[0] == {"query": 10}, "no layer has a higher rank than its sides"


def test_what_has_no_room_is_left_out() -> None:
    sets = module_sets(SHAPES, 80)
    assert sets.alone() == [{"query": 2}, {"value": 2}]
    assert sets.joined(["query", "value"]) == [{"query": 1, "value": 1}]
    assert module_sets(SHAPES, 79).joined(["query", "value"]) == []
    with pytest.raises(UserError, match=r"^--lora\.budget: it gives 39 LoRA parameters, .* allowed: 40 parameters"):
        module_sets(SHAPES, 39).alone()


def test_words_are_names_or_their_endings() -> None:
    given = [["att.query", "up"], ["m.layer.0.up"]]
    sets = module_sets(SHAPES, 360, given)
    assert sets.given(given) == [{"att.query": 2, "up": 2}, {"m.layer.0.up": 7}]
    assert sets.layers(["up", "att.query"]) == [name for name in SHAPES if "value" not in name]
    with pytest.raises(UserError, match=r"^--lora\.module_sets: key matches no layer .*: query, value, up$"):
        module_sets(SHAPES, 360, [["query", "key"]])
    with pytest.raises(UserError, match=r"^--lora\.module_sets: \[up\] does not fit 99 .* takes 100; allowed"):
        module_sets(SHAPES, 99, [["up"]]).given([["up"]])
