"""Names and places of the parts of a fused projection."""

import pytest

from autolora.configs.errors import UserError
from autolora.problems.models.parts import Group, groups_of, layer_ranks, layout, refuse_overlap, split

C = "transformer.h.0.attn.c_attn"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{C}.q", (C, "q")),
        ("c_attn.v", ("c_attn", "v")),
        (C, (C, None)),
        (f"{C}.w", (f"{C}.w", None)),
        ("block.0.SelfAttention.q", ("block.0.SelfAttention.q", None)),  # T5's q is a layer
        ("h.my_c_attn.q", ("h.my_c_attn.q", None)),
    ],
)
def test_a_part_is_known_by_its_name(name: str, expected: tuple[str, str | None]) -> None:
    assert split(name) == expected


def test_groups_are_the_named_parts_or_the_whole_layer_in_the_order_of_the_model() -> None:
    layers = ["h.0.attn.c_attn", "h.0.mlp.c_fc", "h.1.attn.c_attn"]
    assert groups_of(layers, ["c_fc", "c_attn"]) == layers
    assert groups_of(layers, ["c_attn.v", "c_fc", "h.0.attn.c_attn.q"]) == [
        "h.0.attn.c_attn.q", "h.0.attn.c_attn.v", "h.0.mlp.c_fc", "h.1.attn.c_attn.v",
    ]  # fmt: skip


def test_a_layer_that_is_called_like_a_part_is_whole() -> None:
    layers = ["block.0.SelfAttention.q", "block.0.SelfAttention.v"]
    assert groups_of(layers, ["q", "v"]) == layers


def test_parts_lie_side_by_side_in_the_order_of_their_outputs_whatever_order_names_them() -> None:
    places = layout({f"{C}.v": 2, "other": 5, f"{C}.q": 3, f"{C}.k": 0})
    assert places == {
        f"{C}.q": Group(C, slice(0, 3), "q"),
        f"{C}.k": Group(C, slice(3, 3), "k"),
        f"{C}.v": Group(C, slice(3, 5), "v"),
        "other": Group("other", slice(0, 5)),
    }
    assert [places[name].rows(12) for name in (f"{C}.q", f"{C}.k", f"{C}.v", "other")] == [
        slice(0, 4), slice(4, 8), slice(8, 12), slice(0, 12),
    ]  # fmt: skip
    assert layer_ranks({f"{C}.v": 2, "other": 5, f"{C}.q": 3}) == {C: 5, "other": 5}


def test_a_layer_is_not_whole_and_in_parts() -> None:
    refuse_overlap([f"{C}.q", f"{C}.v", "transformer.h.1.attn.c_attn"], "ranks.json")
    with pytest.raises(UserError, match=rf"^ranks\.json: {C} is named whole and by part \({C}\.v\)"):
        refuse_overlap([C, f"{C}.v"], "ranks.json")
