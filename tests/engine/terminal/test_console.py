"""Ranks as blocks x projections, by the layers' names."""

from __future__ import annotations

import pytest

from engine.ranks import LayerRank, RankRecord
from engine.terminal.console import console
from engine.terminal.rank_table import rank_grid, rank_table

GRIDS = {
    "bert": (
        {
            "bert.encoder.layer.0.attention.self.query": 3,
            "bert.encoder.layer.0.attention.self.value": 1,
            "bert.encoder.layer.11.attention.self.query": 0,
        },
        (["0", "11"], ["query", "value"], [[3, 1], [0, None]]),
    ),
    "gpt2": (
        {"transformer.h.0.attn.c_attn": 4, "transformer.h.1.attn.c_attn": 2},
        (["0", "1"], ["c_attn"], [[4], [2]]),
    ),
    "llama": (
        {
            "model.layers.0.self_attn.q_proj": 8,
            "model.layers.0.self_attn.v_proj": 7,
            "model.layers.1.mlp.down_proj": 6,
        },
        (["0", "1"], ["q_proj", "v_proj", "down_proj"], [[8, 7, None], [None, None, 6]]),
    ),
    "no number": ({"classifier": 2}, (["-"], ["classifier"], [[2]])),
}


@pytest.mark.parametrize("kind", GRIDS)
def test_the_grid_has_a_row_a_block_and_a_column_a_projection(kind: str) -> None:
    ranks, expected = GRIDS[kind]
    record = RankRecord(8, tuple(LayerRank(name, rank) for name, rank in ranks.items()))
    assert rank_grid(record) == expected


def test_layers_of_one_block_and_ending_do_not_hide_each_other() -> None:
    """BERT's two `dense` of a block, as with target_modules: [dense]."""
    names = ["attention.output.dense", "intermediate.dense", "output.dense"]
    record = RankRecord(8, tuple(LayerRank(f"bert.encoder.layer.0.{n}", i + 1) for i, n in enumerate(names)))
    _, columns, grid = rank_grid(record)
    assert len(columns) == 3
    assert sorted(rank for row in grid for rank in row if rank is not None) == [1, 2, 3]


def test_the_table_shows_every_rank(capsys: pytest.CaptureFixture[str]) -> None:
    record = RankRecord(8, (LayerRank("a.0.query", 5), LayerRank("a.1.value", 7)))
    console.print(rank_table(record))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert any({"0", "5"} <= set(line) and "7" not in line for line in lines)
    assert any({"1", "7"} <= set(line) and "5" not in line for line in lines)
