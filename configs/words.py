"""What a key takes, in words, from its type and range."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


def takes(kind: Any, limits: Any = ()) -> str:
    """The values that a type allows, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return takes(inner[0], inner[1:])
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (Union, UnionType):
        told = [takes(one, limits) for one in inner if one is not NoneType]
        return " or ".join(told + ["null"] * (NoneType in inner))
    if origin is list:
        return f'a list such as "[a,b]" ({takes(inner[0])})'
    if origin is dict:
        return "keys with values"
    names = {int: "a whole number", float: "a number", bool: "true, false", str: "text", Any: "any value"}
    return f"{names.get(kind, str(kind))}{_range(limits)}"


def _range(limits: Any) -> str:
    """The range in the metadata of a field, such as " from 1"; limits against overflow are left out."""
    parts = [one for limit in limits for one in getattr(limit, "metadata", [limit])]
    found = {name: getattr(one, name) for one in parts for name in ("ge", "gt", "le", "lt", "multiple_of")
             if getattr(one, name, None) is not None}  # fmt: skip
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below", "multiple_of": "in steps of"}
    told = [f"{words[name]} {value}" for name, value in found.items() if value < 1_000_000]
    return f" {' '.join(told)}" if told else ""
