"""Names of layers: what a target matches, the parts of GPT-2's c_attn, and each layer's place in
the grid of ranks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PARTS = ("q", "k", "v")
"""GPT-2's c_attn computes query, key and value, in this order; `fused.py` splits it where they get
ranks of their own."""
_PART = re.compile(r"((?:.*\.)?c_attn)\.[qkv]")
_NUMBERED = re.compile(r"(?:(.*?)\.)?(\d+)(?:\.(.*))?")
"""A name cut at its first part that is a number."""


def matches(name: str, target: str) -> bool:
    """Whether `target` names this module by PEFT's rule: it is the full name, or the end of it
    after a dot."""
    return name == target or name.endswith(f".{target}")


def lies_in(name: str, module: str) -> bool:
    """Whether `name` is the module's own name or lies inside the module; `module` is a full name or
    its ending."""
    return f".{module}." in f".{name}."


def parts_of(layer: str) -> list[str]:
    """The names of the parts of a fused layer, in the order of its outputs."""
    return [f"{layer}.{part}" for part in PARTS]


def joined_ranks(ranks: Mapping[str, int]) -> dict[str, int]:
    """Layer of the stock model -> rank: the parts of a c_attn share one LoRA, whose rank is their
    sum."""
    total: dict[str, int] = {}
    for name, rank in ranks.items():
        layer = _PART.sub(r"\1", name)
        total[layer] = total.get(layer, 0) + rank
    return total


@dataclass(frozen=True)
class Grid:
    """The blocks of the model, the projections in a block, and the place of each layer: the index
    of its block and of its projection. `encoder.layer.3.attention.self.query` lies in block 3 and
    is its projection `query`."""

    blocks: list[str]
    projections: list[str]
    cells: list[tuple[int, int]]


def grid_of(names: Sequence[str]) -> Grid:
    """The grid of these layers; no two of them share a cell.

    In a layer's name, the parts before the first number are its stack, the number is its block, and
    the parts after it are its projection. If several stacks have numbered blocks, a block is named
    after its stack, too (`encoder 3`, `decoder 3`). A projection is named by its last part, or by
    all parts if two projections end in the same one.
    """
    cut = [
        (m[1] or "", m[2], m[3] or "") if (m := _NUMBERED.fullmatch(name)) else ("", "", name)
        for name in names
    ]
    stacks = [set(stack.split(".")) for stack, number, _ in cut if number]
    everywhere = set.intersection(*stacks) if stacks else set()
    of_layers = []
    for stack, number, _ in cut:
        own = ".".join(part for part in stack.split(".") if part not in everywhere)
        of_layers.append(f"{own} {number}".strip() or "-")
    blocks = list(dict.fromkeys(of_layers))
    columns = list(dict.fromkeys(rest for *_, rest in cut))
    endings = [column.rpartition(".")[2] for column in columns]
    projections = [
        end if endings.count(end) == 1 else column
        for column, end in zip(columns, endings, strict=True)
    ]
    cells = [
        (blocks.index(of), columns.index(rest))
        for of, (*_, rest) in zip(of_layers, cut, strict=True)
    ]
    return Grid(blocks, projections, cells)


def short_names(names: Sequence[str]) -> list[str]:
    """A short name like `3 query` for each layer; no two are equal."""
    grid = grid_of(names)
    places = [
        (grid.blocks[block], grid.projections[projection]) for block, projection in grid.cells
    ]
    return [projection if block == "-" else f"{block} {projection}" for block, projection in places]


def key_names(names: Sequence[str]) -> list[str]:
    """A name like `3_query` for each layer, for keys that may have neither dots nor blanks."""
    return [re.sub(r"[^A-Za-z0-9_]", "_", name) for name in short_names(names)]
