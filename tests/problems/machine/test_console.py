"""The console shows data as it is: no markup, no emoji, no escape code of a name."""

import io

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text

from autolora.problems.machine.console import PlainConsole

HOSTILE = "[/b][red]:smile:\x1b[31m\x9b2J"
SHOWN = r"[/b][red]:smile:\x1b[31m\x9b2J"


def on(file: io.StringIO, *, terminal: bool = False) -> PlainConsole:
    return PlainConsole(file=file, width=100, force_terminal=terminal, color_system="truecolor" if terminal else None)


def table() -> Table:
    made = Table(title=HOSTILE)
    made.add_column(HOSTILE)
    made.add_row(HOSTILE)
    return made


@pytest.mark.parametrize("shown", [HOSTILE, Text(HOSTILE), table()], ids=["text", "Text", "table"])
def test_a_name_is_shown_as_it_is(shown: object) -> None:
    file = io.StringIO()
    on(file).print(shown)
    assert "\x1b" not in file.getvalue()
    assert file.getvalue().count(SHOWN) == (3 if isinstance(shown, Table) else 1)


def test_styles_and_a_live_view_keep_their_own_codes() -> None:
    file = io.StringIO()
    console = on(file, terminal=True)
    console.print(Text("x", style="bold"))
    assert "\x1b[1mx" in file.getvalue()
    with Live(Text(HOSTILE), console=console, auto_refresh=False) as live:
        live.refresh()
    shown = file.getvalue()
    assert "\x1b[?25l" in shown, "rich hides the cursor"
    assert "\x1b[31m" not in shown
    assert r"\x1b[31m" in shown


def test_a_text_is_broken_at_words_in_a_window_and_whole_in_a_file() -> None:
    sentence = "a sentence that says much " * 6
    file, window = io.StringIO(), io.StringIO()
    on(file).print(sentence.strip())
    on(window, terminal=True).print(sentence.strip())
    assert file.getvalue().splitlines() == [sentence.strip()]
    lines = window.getvalue().splitlines()
    assert len(lines) > 1
    assert " ".join(line.strip() for line in lines) == sentence.strip()
    assert max(map(len, lines)) <= 100
