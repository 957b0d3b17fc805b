"""A page that the program writes, as a test reads it."""

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """What a page loads, shows and would run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    @property
    def payload(self) -> dict[str, Any]:
        """What the page's script reads."""
        return json.loads(self.scripts[0])

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in_script = tag == "script"
        self.loaded += [
            value or "" for name, value in attributes if name in ("src", "href", "srcset", "data", "action")
        ]

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)
            self._in_script = False
        else:
            self.text += data
