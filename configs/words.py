"""What a key takes, in words, from its type and range."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from autolora.configs.section import LARGEST

_LIMITS = {"ge": "from", "gt": "above", "le": "to", "lt": "below", "multiple_of": "in steps of"}


def takes(kind: Any, limits: Any = ()) -> str:
    """The values that a type allows, in words."""
    origin = get_origin(kind)
    inner = get_args(kind)
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
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true, false",
        str: "text",
        Any: "any value",
    }
    parts = [one for limit in limits for one in getattr(limit, "metadata", [limit])]
    found = ((word, getattr(one, name, LARGEST)) for name, word in _LIMITS.items() for one in parts)
    return " ".join([names[kind], *(f"{word} {limit}" for word, limit in found if limit < LARGEST)])
