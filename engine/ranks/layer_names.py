"""Where a layer lies in its model, read from its name: `encoder.layer.3.attention.self.query` is block 3, `query`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True)
class Grid:
    """Blocks of the model x projections; `place`: (block, projection) -> index of the layer, one place each."""

    blocks: list[str]
    projections: list[str]
    place: dict[tuple[str, str], int]


def grid_of(names: Sequence[str]) -> Grid:
    """A name is cut at its first number. Where several stacks are numbered alike a block has its stack's name too
    (`encoder 3`, `decoder 3`); where layers of a block end alike, the projection has all that follows the number."""
    cut = [_cut(name.split(".")) for name in names]
    stacks = _without_common({tuple(stack) for stack, number, _ in cut if number})
    blocks = [f"{stacks[tuple(stack)]} {number}".strip() if number else "-" for stack, number, _ in cut]
    columns = list(dict.fromkeys(rest for *_, rest in cut))
    endings = [column.rsplit(".", 1)[-1] for column in columns]
    named = {column: end if endings.count(end) == 1 else column for column, end in zip(columns, endings, strict=True)}
    places = [(block, named[rest]) for block, (*_, rest) in zip(blocks, cut, strict=True)]
    return Grid(
        list(dict.fromkeys(blocks)), list(named.values()), {place: index for index, place in enumerate(places)}
    )


def _cut(parts: list[str]) -> tuple[list[str], str, str]:
    """What stands before the first number, the number, what follows."""
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ([], "", ".".join(parts)) if at is None else (parts[:at], parts[at], ".".join(parts[at + 1 :]))


def _without_common(stacks: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Each stack -> what tells it from the others: nothing where there is one."""
    start = _alike(stacks)
    left = {stack: stack[start:] for stack in stacks}
    end = _alike(part[::-1] for part in left.values())
    return {stack: ".".join(part[: len(part) - end]) for stack, part in left.items()}


def _alike(rows: Iterable[tuple[str, ...]]) -> int:
    """How many parts all rows begin with."""
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*rows, strict=False)))


def short_names(names: Sequence[str]) -> list[str]:
    """`3 query` for each layer; no two alike."""
    short = list(names)
    for (block, projection), index in grid_of(names).place.items():
        short[index] = projection if block == "-" else f"{block} {projection}"
    return short
