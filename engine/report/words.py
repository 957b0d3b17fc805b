"""Numbers as the terminal and the page show them."""

import math

_MOST_DECIMALS = 6


def signed(nats: float) -> str:
    """A difference of losses with its sign: four decimals, or two significant digits if it is below 0.001, but six
    decimals at most."""
    shown = round(nats, _MOST_DECIMALS) + 0.0  # + 0.0, as -0.0 would have a minus sign
    small = 0 < abs(shown) < 0.001
    decimals = min(_MOST_DECIMALS, 1 - math.floor(math.log10(abs(shown)))) if small else 4
    return f"{shown:+.{decimals}f}"
