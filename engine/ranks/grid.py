"""The grid of ranks: the place of every layer, read from its name.

`encoder.layer.3.attention.self.query` lies in block 3 and is its projection `query`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from autolora.configs.plain import plain

NOT_DECIDED = "not decided within this search"
"""What a pale cell means, on every rank map."""


@dataclass(frozen=True)
class Grid:
    """The blocks of the model and the projections in a block, with names that are safe to show.

    `cells`: for each layer the index of its block and of its projection; no two layers share a cell.
    """

    blocks: list[str]
    projections: list[str]
    cells: list[tuple[int, int]]


def grid_of(names: Sequence[str]) -> Grid:
    """The grid of these layers.

    In a layer's name, the parts before the first number are its stack, the number is its block, and the parts after it
    are its projection. If several stacks have numbered blocks, a block is named after its stack, too (`encoder 3`,
    `decoder 3`). A projection is named by its last part, or by all parts if two projections end in the same one.
    """
    cut = [_cut(name.split(".")) for name in names]
    stacks = _told_apart([stack for stack, number, _ in cut if number])
    of_layers = [f"{stacks[stack]} {number}".strip() if number else "-" for stack, number, _ in cut]
    blocks = {block: i for i, block in enumerate(dict.fromkeys(of_layers))}
    columns = {rest: i for i, rest in enumerate(dict.fromkeys(rest for *_, rest in cut))}
    endings = [column.rsplit(".", 1)[-1] for column in columns]
    projections = [end if endings.count(end) == 1 else column for column, end in zip(columns, endings, strict=True)]
    cells = [(blocks[block], columns[rest]) for block, (*_, rest) in zip(of_layers, cut, strict=True)]
    return Grid([plain(block) for block in blocks], [plain(name) for name in projections], cells)


def _cut(parts: list[str]) -> tuple[tuple[str, ...], str, str]:
    """The parts before the first number, the number, and the parts after it (joined); all parts if there is none."""
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ((), "", ".".join(parts)) if at is None else (tuple(parts[:at]), parts[at], ".".join(parts[at + 1 :]))


def _told_apart(stacks: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Each stack -> the part of its name that differs from the other stacks; empty if there is only one stack."""
    start = _shared(stacks)
    end = _shared([stack[start:][::-1] for stack in stacks])
    return {stack: ".".join(stack[start : len(stack) - end]) for stack in stacks}


def _shared(stacks: Sequence[tuple[str, ...]]) -> int:
    """The number of parts at the beginning that all stacks share."""
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*stacks, strict=False)))


def short_names(names: Sequence[str]) -> list[str]:
    """A short name like `3 query` for each layer; no two are equal."""
    grid = grid_of(names)
    places = [(grid.blocks[block], grid.projections[projection]) for block, projection in grid.cells]
    return [projection if block == "-" else f"{block} {projection}" for block, projection in places]


def key_names(names: Sequence[str]) -> list[str]:
    """A name like `3_query` for each layer, for keys that may have neither dots nor blanks."""
    return [re.sub(r"[^A-Za-z0-9_]", "_", name) for name in short_names(names)]
