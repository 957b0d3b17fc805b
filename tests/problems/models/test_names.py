"""Every layer has a cell and a short name of its own."""

import pytest

from autolora.problems.models.names import key_names, short_names

NAMES = {
    "bert": (
        [
            "bert.encoder.layer.0.attention.self.query",
            "bert.encoder.layer.11.attention.self.value",
            "classifier",
        ],
        ["0 query", "11 value", "classifier"],
    ),
    "t5": (
        [
            "encoder.block.0.layer.0.SelfAttention.q",
            "decoder.block.0.layer.0.SelfAttention.q",
            "decoder.block.0.layer.1.EncDecAttention.q",
        ],
        [
            "encoder 0 layer.0.SelfAttention.q",
            "decoder 0 layer.0.SelfAttention.q",
            "decoder 0 layer.1.EncDecAttention.q",
        ],
    ),
    "experts": (
        [f"model.layers.{i}.mlp.experts.{j}.up_proj" for i in (0, 1) for j in (0, 1)],
        [f"{i} mlp.experts.{j}.up_proj" for i in (0, 1) for j in (0, 1)],
    ),
    "one stack inside another": (
        ["layer.0.query", "decoder.layer.0.query"],
        ["0 query", "decoder 0 query"],
    ),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_short_name_is_block_and_projection(kind: str) -> None:
    names, expected = NAMES[kind]
    assert short_names(names) == expected


def test_keys_have_neither_dots_nor_blanks() -> None:
    names = ["layer.0.output.dense", "layer.0.intermediate.dense", "layer.1.query"]
    assert key_names(names) == ["0_output_dense", "0_intermediate_dense", "1_query"]
