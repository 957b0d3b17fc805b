"""Numbers as the terminal and the page show them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_DECIMALS, _MOST_DECIMALS = 4, 6


def signed(nats: float) -> str:
    """A difference of losses with its sign: four decimals, or two significant digits if it is below 0.001, but six
    decimals at most."""
    shown = round(nats, _MOST_DECIMALS) + 0.0  # + 0.0, as -0.0 would have a minus sign
    small = 0 < abs(shown) < 0.001
    decimals = min(_MOST_DECIMALS, 1 - math.floor(math.log10(abs(shown)))) if small else _DECIMALS
    return f"{shown:+.{decimals}f}"


def told_apart(numbers: Sequence[float | None]) -> list[str]:
    """Losses (or scores) that are compared: four decimals, or as many as it takes to tell all apart, but six at most;
    "" for None."""
    known = [number for number in numbers if number is not None]
    different = len({round(number, _MOST_DECIMALS) for number in known})
    decimals = _DECIMALS
    while len({round(number, decimals) for number in known}) < different:
        decimals += 1
    return ["" if number is None else f"{number:z.{decimals}f}" for number in numbers]


def mean_of_arms(arms: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """The mean of the losses (or scores, by `name`) of each arm of a verdict, as text; "" for an arm without them."""
    return told_apart([sum(arm[name]) / len(arm[name]) if arm.get(name) else None for arm in arms])
