"""The progress bar: on the screen while its work runs, plain lines without a terminal."""

import io
import time

import pytest
from rich.console import Console, ConsoleOptions, RenderResult

from autolora.engine.terminal import ticker
from autolora.engine.terminal.bar import REFRESHES_PER_SECOND, Bar


def screen(terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, height=40, record=True)


def test_it_shows_how_much_is_done_and_what_is_below() -> None:
    console = screen()
    with Bar("decode", 10, 2, ["below"], console) as bar:
        bar.step(4)
    assert "decode" in (text := console.export_text())
    assert "4/10" in text
    assert "below" in text


def test_the_time_left_is_named_and_work_that_comes_on_top_counts() -> None:
    console = screen()
    with Bar("answer", 4, on=console) as bar:
        for done in (1, 2, 3):
            time.sleep(0.01)
            bar.step(done)
        bar.grow(96)
        for done in (4, 5, 6):
            time.sleep(0.01)
            bar.step(done)
    shown = console.export_text()
    assert "6/100" in shown
    assert " left" in shown


def test_without_a_terminal_there_are_lines(log_lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(ticker.time, "monotonic", lambda: now[0])
    console = screen(terminal=False)
    with Bar("decode", 10, on=console) as bar:
        for done in range(10):
            now[0] += 4.0
            bar.step(done, "more")
    assert log_lines == [
        "INFO decode 2/10  10.0/min, 0:48 left  more",
        "INFO decode 5/10  12.5/min, 0:24 left  more",
        "INFO decode 8/10  13.3/min, 0:09 left  more",
    ]
    assert not console.export_text().strip()


def test_colours_that_are_forced_into_a_file_draw_no_bar_there(
    log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Build servers set FORCE_COLOR; each of four drawings a second would stay in their log."""
    now = [0.0]
    monkeypatch.setattr(ticker.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=True, force_interactive=False, record=True)
    with Bar("decode", 10, on=console, steady=False) as bar:
        now[0] = 11.0
        bar.step(2)
    assert log_lines == ["INFO decode 2/10  10.9/min, 0:44 left"]
    assert not console.export_text().strip()


def test_what_a_step_costs_does_not_grow_with_the_picture() -> None:
    """The screen is drawn so many times a second, however fast the steps are."""
    drawings = []

    class Below:
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            drawings.append(time.monotonic())
            yield "below"

    started = time.monotonic()
    with Bar("decode", 10_000, below=[Below()], on=screen()) as bar:
        for step in range(2000):
            bar.step(step)
            time.sleep(0.0002)
    # One at the start and one at the end besides.
    assert 2 <= len(drawings) <= 4 + REFRESHES_PER_SECOND * (time.monotonic() - started)
