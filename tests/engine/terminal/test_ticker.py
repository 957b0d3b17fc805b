"""Lines about a long work: no more often than due, and none where a terminal shows a bar."""

import io

import pytest
from rich.console import Console

from engine.terminal import ticker
from engine.terminal.ticker import Ticker


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
    assert log_lines == ([] if terminal else ["INFO retrain 2/5", "INFO retrain 4/5  loss 0.5"])
