"""Lines about a long work: no more often than due, and none where a terminal shows a bar."""

import io

import pytest
from rich.console import Console

from autolora.engine.terminal import ticker
from autolora.engine.terminal.ticker import Ticker, pace_words


@pytest.mark.parametrize("terminal", [False, True])
def test_there_is_a_line_every_ten_seconds_where_no_terminal_is(
    log_lines: list[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    now = [0.0]
    monkeypatch.setattr(ticker.time, "monotonic", lambda: now[0])
    made = Ticker("retrain", 5, Console(file=io.StringIO(), force_terminal=terminal))
    for done, seconds in enumerate((4.0, 11.0, 20.0, 22.0), start=1):
        now[0] = seconds
        made.tick(done, "loss 0.5" if done == 4 else "")
    assert log_lines == (
        []
        if terminal
        else [
            "INFO retrain 2/5  10.9/min, 0:16 left",
            "INFO retrain 4/5  10.9/min, 0:06 left  loss 0.5",
        ]
    )


def test_the_pace_of_what_resumes_is_that_of_its_own_steps(
    log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(ticker.time, "monotonic", lambda: now[0])
    made = Ticker("search", 1000, Console(file=io.StringIO(), force_terminal=False), done=900)
    now[0] = 20.0
    made.tick(940)
    assert log_lines == ["INFO search 940/1000  2.0/s, 0:30 left"]


@pytest.mark.parametrize(
    ("speed", "left", "words"),
    [
        (None, None, ""), (0.0, None, ""), (120.4, 3723.0, "120/s, 1:02:03 left"), (2.54, 0.4, "2.5/s, 0:00 left"),
        (0.05, None, "3.0/min"),
    ],
)  # fmt: skip
def test_a_slow_pace_is_told_in_minutes(speed: float | None, left: float | None, words: str) -> None:
    assert pace_words(speed, left) == words
