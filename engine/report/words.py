"""Numbers as the terminal and the page show them."""


def signed(nats: float) -> str:
    """A difference of losses with its sign: four decimals, or two significant digits if it is below 0.001."""
    return f"{nats + 0.0:+.4f}" if nats == 0 or abs(nats) >= 0.001 else f"{nats:+.2g}"
