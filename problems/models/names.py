"""Names of layers: what a target matches, and the parts of GPT-2's c_attn."""

import re
from collections.abc import Mapping

PARTS = ("q", "k", "v")
"""GPT-2's c_attn computes query, key and value, in this order; `fused.py` splits it where they get ranks of their
own."""
_PART = re.compile(r"((?:.*\.)?c_attn)\.[qkv]")


def matches(name: str, target: str) -> bool:
    """Whether `target` names this module by PEFT's rule: it is the full name, or the end of it after a dot."""
    return name == target or name.endswith(f".{target}")


def lies_in(name: str, module: str) -> bool:
    """Whether `name` is the module's own name or lies inside the module; `module` is a full name or its ending."""
    return f".{module}." in f".{name}."


def parts_of(layer: str) -> list[str]:
    """The names of the parts of a fused layer, in the order of its outputs."""
    return [f"{layer}.{part}" for part in PARTS]


def joined_ranks(ranks: Mapping[str, int]) -> dict[str, int]:
    """Layer of the stock model -> rank: the parts of a c_attn share one LoRA, whose rank is their sum."""
    total: dict[str, int] = {}
    for name, rank in ranks.items():
        layer = _PART.sub(r"\1", name)
        total[layer] = total.get(layer, 0) + rank
    return total
