"""A terminal that shows names and texts as they are, and obeys no command in them."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from configs.plain import plain


class PlainConsole(Console):
    """A console for which `[bold]` and `:smile:` in a text are plain text, and which escapes control characters.

    Styles are given as arguments or as rich's own Text.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(markup=False, emoji=False, **options)  # type: ignore[arg-type]

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich prints it; where there is no terminal a text is not broken into lines of 80 letters, so that it can
        be searched for and copied."""
        texts = all(isinstance(x, str | Text) for x in objects)
        if texts and not self.is_terminal and not options.keys() & {"soft_wrap", "no_wrap", "overflow"}:
            options["soft_wrap"] = True
        super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escapes a text before rich measures it, as for the width of a table's column."""
        return super().render_str(plain(text, keep="\n\t"), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich renders it, with texts escaped; segments that move the cursor are rich's own and stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text, keep="\n"), segment.style)
