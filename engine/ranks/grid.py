"""The grid of ranks: the place of every layer, read from its name, and the colour of a rank.

`encoder.layer.3.attention.self.query` lies in block 3 and is its projection `query`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from autolora.configs.plain import plain

NOT_DECIDED = "not decided within this search"
"""What a pale cell means, on every rank map."""

# ColorBrewer's YlGnBu, from pale to dark.
_SHADES = ("ffffd9", "edf8b1", "c7e9b4", "7fcdbb", "41b6c4", "1d91c0", "225ea8", "253494", "081d58")


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
    stacks = _without_common({tuple(stack) for stack, number, _ in cut if number})
    of_layers = [f"{stacks[tuple(stack)]} {number}".strip() if number else "-" for stack, number, _ in cut]
    blocks = {block: i for i, block in enumerate(dict.fromkeys(of_layers))}
    columns = {rest: i for i, rest in enumerate(dict.fromkeys(rest for *_, rest in cut))}
    endings = [column.rsplit(".", 1)[-1] for column in columns]
    projections = [end if endings.count(end) == 1 else column for column, end in zip(columns, endings, strict=True)]
    cells = [(blocks[block], columns[rest]) for block, (*_, rest) in zip(of_layers, cut, strict=True)]
    return Grid([plain(block) for block in blocks], [plain(name) for name in projections], cells)


def _cut(parts: list[str]) -> tuple[list[str], str, str]:
    """The parts before the first number, the number, and the parts after it (joined); all parts if there is none."""
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ([], "", ".".join(parts)) if at is None else (parts[:at], parts[at], ".".join(parts[at + 1 :]))


def _without_common(stacks: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Each stack -> the part of its name that differs from the other stacks; empty if there is only one stack."""
    start = _shared_start(stacks)
    left = {stack: stack[start:] for stack in stacks}
    end = _shared_start(part[::-1] for part in left.values())
    return {stack: ".".join(part[: len(part) - end]) for stack, part in left.items()}


def _shared_start(rows: Iterable[tuple[str, ...]]) -> int:
    """The number of parts at the beginning that all rows share."""
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*rows, strict=False)))


def short_names(names: Sequence[str]) -> list[str]:
    """A short name like `3 query` for each layer; no two are equal."""
    grid = grid_of(names)
    places = [(grid.blocks[block], grid.projections[projection]) for block, projection in grid.cells]
    return [projection if block == "-" else f"{block} {projection}" for block, projection in places]


def key_names(names: Sequence[str]) -> list[str]:
    """A name like `3_query` for each layer, for keys that may have neither dots nor blanks; no two are equal."""
    for found in (short_names(names), names):
        keys = [re.sub(r"[^A-Za-z0-9_]", "_", name) for name in found]
        if len(set(keys)) == len(keys):
            return keys
    return [f"{key}_{number}" for number, key in enumerate(keys, start=1)]


def rank_colour(rank: float, k: int) -> str:
    """The colour of a rank on every map: pale for 0, dark for k."""
    at = min(1.0, rank / k) * (len(_SHADES) - 1)
    below, above = (bytes.fromhex(_SHADES[min(len(_SHADES) - 1, int(at) + more)]) for more in (0, 1))
    return "#" + bytes(round(a + (at % 1) * (b - a)) for a, b in zip(below, above, strict=True)).hex()


def ink_on(rank: float, k: int) -> str:
    """The colour of text that can be read on the colour of a rank."""
    return "white" if rank > 0.5 * k else "black"


def pale(colour: str) -> str:
    """A colour mixed with white, for a cell whose rank is not decided; black text can be read on it."""
    return "#" + bytes(round(255 - 0.35 * (255 - part)) for part in bytes.fromhex(colour[1:])).hex()
