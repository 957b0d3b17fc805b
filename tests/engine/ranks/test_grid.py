"""Every layer has a cell and a short name of its own, and every rank a colour that can be told from the others."""

import pytest

from autolora.engine.ranks.grid import grid_of, ink_on, key_names, pale, rank_colour, short_names

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
    assert len(grid.cells) == len(set(grid.cells)) == len(names)
    assert {block for block, _ in grid.cells} == set(range(len(grid.blocks)))
    assert {projection for _, projection in grid.cells} == set(range(len(grid.projections)))


GRIDS = {
    "bert": (
        [f"bert.encoder.layer.{layer}" for layer in ("0.attention.query", "0.attention.value", "11.attention.query")],
        (["0", "11"], ["query", "value"], [(0, 0), (0, 1), (1, 0)]),
    ),
    "gpt2": (
        ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"], (["0", "1"], ["c_attn"], [(0, 0), (1, 0)])
    ),
    "llama": (
        [f"model.layers.{layer}_proj" for layer in ("0.self_attn.q", "0.self_attn.v", "1.mlp.down")],
        (["0", "1"], ["q_proj", "v_proj", "down_proj"], [(0, 0), (0, 1), (1, 2)]),
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


@pytest.mark.parametrize("k", [1, 4, 8, 30])
def test_ranks_differ_in_colour_and_grow_darker(k: int) -> None:
    colours = [bytes.fromhex(rank_colour(rank, k)[1:]) for rank in range(k + 1)]
    assert len(set(colours)) == k + 1
    light = [0.3 * red + 0.6 * green + 0.1 * blue for red, green, blue in colours]
    assert light == sorted(light, reverse=True)
    assert rank_colour(2 * k, k) == rank_colour(k, k), "a rank by hand may be above k"


def test_numbers_can_be_read_on_their_colours() -> None:
    for rank in range(9):
        red, green, blue = bytes.fromhex(rank_colour(rank, 8)[1:])
        assert ink_on(rank, 8) == ("black" if 0.3 * red + 0.6 * green + 0.1 * blue > 140 else "white")


def test_a_pale_colour_is_nearer_to_white_and_no_colour_of_another_rank() -> None:
    colours = [rank_colour(rank, 8) for rank in range(9)]
    for colour in colours:
        assert all(a <= b for a, b in zip(bytes.fromhex(colour[1:]), bytes.fromhex(pale(colour)[1:]), strict=True))
        assert min(bytes.fromhex(pale(colour)[1:])) >= 0xA0, "black can be read on it"
        assert pale(colour) not in colours


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["encoder.layer.0.attention.self.query", "encoder.layer.1.attention.self.query"], ["0_query", "1_query"]),
        (["layer.0.output.dense", "layer.0.intermediate.dense"], ["0_output_dense", "0_intermediate_dense"]),
        (["x.a-b", "y.a_b"], ["x_a_b", "y_a_b"]),
        (["a-b", "a_b"], ["a_b_1", "a_b_2"]),
    ],
)
def test_keys_have_neither_dots_nor_blanks_and_no_two_are_equal(names: list[str], keys: list[str]) -> None:
    assert key_names(names) == keys
