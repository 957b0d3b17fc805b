"""Every layer has a cell and a short name of its own."""

import pytest

from autolora.problems.models.names import grid_of, key_names, short_names

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


GRIDS = {
    "bert": (
        [f"bert.encoder.layer.{layer}" for layer in ("0.attention.query", "0.attention.value", "11.attention.query")],
        (["0", "11"], ["query", "value"], [(0, 0), (0, 1), (1, 0)]),
    ),
    "no number": (["classifier"], (["-"], ["classifier"], [(0, 0)])),
    "two of a block that end alike": (
        [f"bert.encoder.layer.0.{name}.dense" for name in ("attention.output", "intermediate")],
        (["0"], ["attention.output.dense", "intermediate.dense"], [(0, 0), (0, 1)]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GRIDS)
def test_a_cell_lies_at_its_block_and_its_projection(kind: str) -> None:
    names, expected = GRIDS[kind]
    grid = grid_of(names)
    assert (grid.blocks, grid.projections, grid.cells) == expected


def test_keys_have_neither_dots_nor_blanks() -> None:
    names = ["layer.0.output.dense", "layer.0.intermediate.dense", "layer.1.query"]
    assert key_names(names) == ["0_output_dense", "0_intermediate_dense", "1_query"]
