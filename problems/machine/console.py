"""A console that shows names and texts unchanged, but escapes characters that would control the terminal."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from autolora.configs.plain import plain


class PlainConsole(Console):
    """A console for which `[bold]` and `:smile:` in a text are plain text, and which escapes control characters.

    Styles are given as arguments or as rich's own Text.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(markup=False, emoji=False, **options)  # type: ignore[arg-type]

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints as rich does, but breaks no lines if the output is not a terminal.

        In a file, a text that rich has broken after 80 letters could not be searched for.
        """
        texts = all(isinstance(x, str | Text) for x in objects)
        if texts and not self.is_terminal and not options.keys() & {"soft_wrap", "no_wrap", "overflow"}:
            options["soft_wrap"] = True
        super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escapes a text before rich measures it, for example for the width of a table's column."""
        return super().render_str(plain(text, keep="\n\t"), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Renders as rich does, and escapes the texts; segments that move the cursor come from rich itself."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text, keep="\n"), segment.style)
