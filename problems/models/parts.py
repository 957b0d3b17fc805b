"""Parts of a fused projection: GPT-2's c_attn computes query, key and value by one matrix; each may have its own rank.

A *group* of rank-1 components has one row of beta, one rank and one name: it is a layer, or a part of a fused layer,
named `...c_attn.q`. A layer has one stock PEFT LoRA. Its groups lie side by side in it, and a part changes only its
own block of the outputs:

        [ B_q  0   ]        [ A_q ]
    B = [ 0    0   ]    A = [ A_v ]    Delta_q = B_q A_q,  Delta_k = 0,  Delta_v = B_v A_v
        [ 0    B_v ]

so the exported adapter is a plain one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autolora.configs.errors import UserError
from autolora.configs.schema import FUSED, PART


@dataclass(frozen=True)
class Group:
    """Where one group lies: its layer, its components in the layer's LoRA, and its part (None: the whole layer)."""

    layer: str
    components: slice
    part: str | None = None

    def rows(self, outputs: int) -> slice:
        """The rows of the layer's B [outputs, r] that may differ from 0."""
        if self.part is None:
            return slice(0, outputs)
        size, block = outputs // len(FUSED), FUSED.index(self.part)
        return slice(block * size, (block + 1) * size)


def split(name: str) -> tuple[str, str | None]:
    """A group's name -> its layer's name and its part (None: the whole layer)."""
    return (name[:-2], name[-1]) if PART.fullmatch(name) else (name, None)


def matches(name: str, target: str) -> bool:
    """Whether `target` names this module by PEFT's rule: it is the full name, or the end of it after a dot."""
    return name == target or name.endswith(f".{target}")


def lies_in(name: str, module: str) -> bool:
    """Whether `name` is the module's own name or lies inside the module; `module` is a full name or its ending."""
    return f".{module}." in f".{name}."


def groups_of(layers: Iterable[str], targets: Sequence[str]) -> list[str]:
    """The groups of layers that have LoRA: those parts of a layer that `targets` name, else the whole layer."""
    groups = []
    for layer in layers:
        parts = [name for name in (f"{layer}.{part}" for part in FUSED) if PART.fullmatch(name)]
        groups += [part for part in parts if any(matches(part, t) for t in targets)] or [layer]
    return groups


def layout(ranks: Mapping[str, int]) -> dict[str, Group]:
    """Group -> where it lies, at these ranks; the parts of a layer come in the order of their outputs."""
    places = {}
    taken: dict[str, int] = {}
    for name in sorted(ranks, key=lambda name: FUSED.index(split(name)[1] or FUSED[0])):
        layer, part = split(name)
        start = taken.get(layer, 0)
        taken[layer] = start + ranks[name]
        places[name] = Group(layer, slice(start, taken[layer]), part)
    return places


def layer_ranks(ranks: Mapping[str, int]) -> dict[str, int]:
    """Layer -> rank of its LoRA: the sum over its groups."""
    total: dict[str, int] = {}
    for name, rank in ranks.items():
        layer, _ = split(name)
        total[layer] = total.get(layer, 0) + rank
    return total


def refuse_overlap(names: Sequence[str], source: str) -> None:
    """Raises UserError, blaming `source`, when a layer is named both whole and by part."""
    for name in names:
        layer, part = split(name)
        if part is not None and layer in names:
            raise UserError(f"{source}: {layer} is named whole and by part ({name}); allowed: one of the two")
