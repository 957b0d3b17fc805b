"""Ranks as a table."""

from __future__ import annotations

from rich.table import Table

from engine.ranks import RankRecord
from engine.ranks.layer_names import grid_of


def rank_table(record: RankRecord) -> Table:
    """Ranks as layers x projections, as the paper's Figure 3."""
    layers, projections, grid = rank_grid(record)
    table = Table()
    table.add_column("layer")
    for projection in projections:
        table.add_column(projection, justify="right")
    for layer, row in zip(layers, grid, strict=True):
        table.add_row(layer, *("" if rank is None else str(rank) for rank in row))
    return table


def rank_grid(record: RankRecord) -> tuple[list[str], list[str], list[list[int | None]]]:
    """Rows (blocks of the model), columns (projections) and the ranks between them; None where there is no layer."""
    grid = grid_of([layer.name for layer in record.layers])
    ranks = {place: record.layers[index].rank for place, index in grid.place.items()}
    return grid.blocks, grid.projections, [[ranks.get((b, p)) for p in grid.projections] for b in grid.blocks]
