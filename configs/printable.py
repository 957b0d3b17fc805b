"""Makes text from outside the program (names, paths, labels, data) safe to show in a terminal."""

from unicodedata import category


def printable(text: str, keep: str = "") -> str:
    """`text`, with each control character written as Python's escape; those in `keep` stay.

    For example, the character that begins a colour code becomes `\\x1b`.
    """
    return "".join(
        c
        if c.isprintable() or c in keep or category(c) in ("Cf", "Zs")
        else c.encode("unicode_escape").decode()
        for c in text
    )
