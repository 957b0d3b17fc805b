"""The terminal of this machine, on which names and texts are shown as they are and command nothing."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from configs.plain import plain


class PlainConsole(Console):
    """A console that takes no `[bold]` and no `:smile:` in a text for a command, and that spells control characters
    out. Styles are given as arguments or as rich's own Text."""

    def __init__(self, **options: object) -> None:
        super().__init__(markup=False, emoji=False, **options)  # type: ignore[arg-type]

    def render_str(self, text: str, **options: Any) -> Text:
        """A text before it is measured, as for the column of a table."""
        return super().render_str(plain(text, keep="\n\t"), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich renders it; the segments that move the cursor are rich's own and stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text, keep="\n"), segment.style)
