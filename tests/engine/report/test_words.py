"""Numbers as the terminal and the page show them."""

import pytest

from engine.report.words import signed


@pytest.mark.parametrize(
    ("nats", "text"),
    [
        (0.01234, "+0.0123"),
        (-0.001, "-0.0010"),
        (0.000024, "+0.000024"),
        (-0.00037, "-0.00037"),
        (3.6e-06, "+0.000004"),
        (-1e-09, "+0.0000"),
        (-0.0, "+0.0000"),
    ],
)
def test_a_small_difference_keeps_its_digits(nats: float, text: str) -> None:
    assert signed(nats) == text
