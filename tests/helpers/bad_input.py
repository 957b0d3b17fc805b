"""Commands with bad or odd input."""

from collections.abc import Callable

Answer = tuple[int, list[str]]
Command = Callable[..., Answer]
ROWS = [("the film is dull", "bad"), ("our room is clean", "good")] * 6


def csv(rows: list[tuple[str, str]], header: str = "text,label") -> str:
    """A table of texts and labels, as the content of a file."""
    return "\n".join([header, *(f'"{text}",{label}' for text, label in rows)]) + "\n"
