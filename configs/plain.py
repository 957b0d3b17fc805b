"""Makes text from outside the program (names, paths, labels, data) safe to show in a terminal."""

import unicodedata

# Unicode categories: control characters, lone surrogates, line and paragraph separators.
_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
# Characters that change the direction in which a terminal writes.
_TURNS = set(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def plain(text: str, keep: str = "") -> str:
    """`text`, with each character that would control a terminal written as Python's escape; those in `keep` stay.

    For example, the character that begins a colour code becomes `\\x1b`.
    """
    if text.isprintable():
        return text
    return "".join(
        repr(c)[1:-1] if c not in keep and (c in _TURNS or unicodedata.category(c) in _CATEGORIES) else c for c in text
    )


def shortened(text: str, most: int = 120) -> str:
    """The text, shortened for a message of one line: a long text loses its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"
