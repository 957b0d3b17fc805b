"""A Markdown parser reads every name of table.md as it is."""

import pytest
from markdown_it import MarkdownIt

from autolora.configs.plain import plain
from autolora.engine.study.markdown import markdown

HOSTILE = [
    "a|b", "two\nlines", "| --- |", "*bold*", "__bold__", "_a_", "`code`", "<script>x</script>", "<b>", "&amp;",
    "[text](http://x)", "![image](x)", "[a][b]", "~~gone~~", "\\", "a\\|b", "[/b]", "[red]x", ":smile:", "\x1b[31mred",
    "first_order", "[0.001, 0.01]", "snake_case_name", "http://x.org", "<http://x.org>", "a\r\nb", "a\u2028b", "# a",
]  # fmt: skip


def cells(text: str) -> list[str]:
    """What a reader sees in each cell of the one table in `text`; anything but plain text fails."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    shown = []
    for token in tokens:
        if token.type == "inline":
            assert all(child.type in ("text", "text_special") for child in token.children or ()), token.children
            shown.append("".join(child.content for child in token.children or ()))
    assert [token.type for token in tokens].count("table_open") == 1
    return shown


def test_numbers_and_names_that_mark_nothing_are_written_as_they_are() -> None:
    table = markdown(["a", "n"], [["first_order", "1,000"], ["[0.001]", "2"]])
    assert table == "| a | n |\n| --- | --- |\n| first_order | 1,000 |\n| [0.001] | 2 |\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_as_it_is_in_head_and_body(name: str) -> None:
    assert cells(markdown([name, "n"], [[name, "1"], ["x", "2"]])) == [
        plain(name),
        "n",
        plain(name),
        "1",
        "x",
        "2",
    ]
