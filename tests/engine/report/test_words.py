"""Numbers as the terminal and the page show them."""

import pytest

from autolora.engine.report.words import mean_of_arms, signed, told_apart


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


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ([0.5, 0.7, None], ["0.5000", "0.7000", ""]),
        ([0.43121, 0.43124, 1.0], ["0.43121", "0.43124", "1.00000"]),
        ([0.4312101, 0.4312149], ["0.431210", "0.431215"]),
        ([0.5, 0.5, 0.5 + 1e-9], ["0.5000", "0.5000", "0.5000"]),
        ([-1e-9, 1.0], ["0.0000", "1.0000"]),
        ([], []),
    ],
)
def test_numbers_that_differ_are_not_shown_as_equal(numbers: list[float | None], shown: list[str]) -> None:
    """Arms of a verdict on a language model had a difference beside two losses that read the same."""
    assert told_apart(numbers) == shown


def test_the_means_of_arms_are_told_apart() -> None:
    arms = [{"losses": [2.0, 2.00004]}, {"losses": [2.0, 2.00006], "scores": [0.5]}]
    assert mean_of_arms(arms, "losses") == ["2.00002", "2.00003"]
    assert mean_of_arms(arms, "scores") == ["", "0.5000"]
