"""Short names stay apart."""

from __future__ import annotations

from engine.layer_names import short_names


def test_a_short_name_is_block_and_projection() -> None:
    names = ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.11.attention.self.value", "classifier"]
    assert short_names(names) == ["0 query", "11 value", "classifier"]


def test_names_that_would_look_alike_stay_whole() -> None:
    names = ["encoder.0.query", "decoder.0.query", "encoder.1.query"]
    short = short_names(names)
    assert len(set(short)) == 3
    assert names[0] in short
