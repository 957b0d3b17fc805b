"""The pages of the repository: their blocks of code, and the anchors of their headings."""

import re
from collections import Counter
from pathlib import Path

from tests.helpers.paths import ROOT

PAGES = [
    *sorted(ROOT.glob("docs/*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")),
]
RESULTS = sorted(ROOT.glob("results/*.md"))
"""Pages of experiments; they also name keys, files and commands that stand at an earlier commit."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in this language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.S | re.M)


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them: a second heading of the same words gets
    -1, a third -2."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?)[ #]*$", prose, re.M):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # of a link, only its words
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found
