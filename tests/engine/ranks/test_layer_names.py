"""Every layer has a place and a short name of its own."""

from __future__ import annotations

import pytest

from engine.ranks.layer_names import grid_of, short_names

NAMES = {
    "bert": (
        ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.11.attention.self.value", "classifier"],
        ["0 query", "11 value", "classifier"],
    ),
    "t5": (
        [
            f"{stack}.block.{i}.layer.{part}.q"
            for stack in ("encoder", "decoder")
            for i in (0, 1)
            for part in ("0.SelfAttention", "1.EncDecAttention")
            if stack == "decoder" or part.startswith("0")
        ],
        ["encoder 0 layer.0.SelfAttention.q", "encoder 1 layer.0.SelfAttention.q"]
        + [
            f"decoder {i} layer.{part}.q" for i in (0, 1) for part in ("0.SelfAttention", "1.EncDecAttention")
        ],
    ),
    "experts": (
        [f"model.layers.{i}.mlp.experts.{j}.up_proj" for i in (0, 1) for j in (0, 1)],
        [f"{i} mlp.experts.{j}.up_proj" for i in (0, 1) for j in (0, 1)],
    ),
    "one stack inside another": (["layer.0.query", "decoder.layer.0.query"], ["0 query", "decoder 0 query"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_a_short_name_is_block_and_projection(kind: str) -> None:
    names, expected = NAMES[kind]
    assert short_names(names) == expected


@pytest.mark.parametrize("kind", NAMES)
def test_no_layer_hides_another(kind: str) -> None:
    names, _ = NAMES[kind]
    grid = grid_of(names)
    assert sorted(grid.place.values()) == list(range(len(names)))
    assert {block for block, _ in grid.place} == set(grid.blocks)
    assert {projection for _, projection in grid.place} == set(grid.projections)
