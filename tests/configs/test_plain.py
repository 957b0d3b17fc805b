"""What commands a terminal is spelled out; every other letter of the world stays."""

import pytest

from autolora.configs.plain import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b2J", r"\x9b2J"),
        ("\udcff", r"\udcff"),
        ("a\u2028b", r"a\u2028b"),
        ("[red]é☃ 中文 :smile:", "[red]é☃ 中文 :smile:"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_commands_are_spelled_out(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain(shown) == shown


def test_what_is_kept_stays() -> None:
    assert plain("a\n\x1b", keep="\n") == "a\n\\x1b"
