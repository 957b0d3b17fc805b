"""Where a layer lies in its model, read from its name: `encoder.layer.3.attention.self.query` is block 3, `query`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Blocks of the model x projections; `place`: (block, projection) -> index of the layer that lies there."""

    blocks: list[str]
    projections: list[str]
    place: dict[tuple[str, str], int]


def grid_of(names: Sequence[str]) -> Grid:
    """A name is cut at its last number. Where layers of a block end alike, the projection has all that follows the
    number: `attention.output.dense`, `output.dense`."""
    cells: dict[tuple[str, str], int] = {}
    for index, name in enumerate(names):
        parts = name.split(".")
        numbers = [i for i, part in enumerate(parts) if part.isdigit()]
        block = parts[numbers[-1]] if numbers else "-"
        cells[block, ".".join(parts[numbers[-1] + 1 :] if numbers else parts)] = index
    blocks = list(dict.fromkeys(block for block, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    endings = [column.rsplit(".", 1)[-1] for column in columns]
    named = {column: end if endings.count(end) == 1 else column for column, end in zip(columns, endings, strict=True)}
    return Grid(blocks, list(named.values()), {(block, named[column]): i for (block, column), i in cells.items()})


def short_names(names: Sequence[str]) -> list[str]:
    """`3 query` for each layer; its whole name where that would hide another."""
    short = list(names)
    for (block, projection), index in grid_of(names).place.items():
        short[index] = projection if block == "-" else f"{block} {projection}"
    return short
