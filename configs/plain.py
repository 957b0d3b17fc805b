"""Text from elsewhere (names, paths, labels, texts of a data set) as it may be shown to a person."""

import unicodedata

# Control characters, halves of characters, line and paragraph separators.
_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
# They turn the direction in which a terminal writes.
_TURNS = set(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def plain(text: str, keep: str = "") -> str:
    """`text` with each character that would command a terminal, such as the start of a colour, spelled out as Python
    does (`\\x1b`); those in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(
        repr(c)[1:-1] if c not in keep and (c in _TURNS or unicodedata.category(c) in _CATEGORIES) else c for c in text
    )
