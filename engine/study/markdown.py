"""A study's table.md: names of variants, models and tasks stand in it as they are, whatever Markdown makes of them."""

import re

import pandas as pd

from configs.plain import plain
from engine.study.rows import texts

# What Markdown takes for a mark wherever it stands; `_` within a word (`first_order`) and a bracket that no link
# follows (`[0.001]`) are text to it, and stay readable.
_MARKS = re.compile(r"[\\`*<>&|~]|(?<![^\W_])_|_(?![^\W_])|\](?=\()|!(?=\[)")


def escaped(text: str) -> str:
    """`text` on one line of Markdown, shown as it is."""
    return _MARKS.sub(r"\\\g<0>", plain(text))


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table."""
    rows = [list(map(str, table.columns)), *texts(table)]
    head, *body = ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]
    return "\n".join([head, "| " + " | ".join(["---"] * len(table.columns)) + " |", *body]) + "\n"
