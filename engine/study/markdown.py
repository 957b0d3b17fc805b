"""A study's table.md. Names of variants, models and tasks are escaped, so that Markdown shows them unchanged."""

import re
from collections.abc import Sequence

from autolora.configs.plain import plain

# The characters that Markdown takes for marks. `_` within a word (`first_order`) and a bracket without a link
# (`[0.001]`) are plain text to it, and are not escaped.
_MARKS = re.compile(r"[\\`*<>&|~]|(?<![^\W_])_|_(?![^\W_])|\](?=\()|!(?=\[)")


def escaped(text: str) -> str:
    """`text` on one line, escaped so that Markdown shows it unchanged."""
    return _MARKS.sub(r"\\\g<0>", plain(text))


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts."""
    head, *body = ["| " + " | ".join(map(escaped, row)) + " |" for row in (columns, *rows)]
    return "\n".join([head, "| " + " | ".join(["---"] * len(columns)) + " |", *body]) + "\n"
