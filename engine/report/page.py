"""A page about a run, a study or an adapter: one self-contained file of sections, without a
script. Every picture is drawn once: as SVG for the page, and as PNG beside it for wandb and
other programs."""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib import rcParams
from matplotlib.figure import Figure

from autolora.engine.disk.files import write_text

INK = "#1f2328"
"""The colour of axes and words in a picture; the page shows them in the colour of its own words,
light or dark."""
NARROWEST = 0.7
"""In a narrow window a picture is shown at this part of its size or more, and can be scrolled."""
MOST_ROWS = 20
"""A longer table is folded."""

rcParams.update(
    dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    )
)
rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "autolora",  # the same page from the same numbers
        "text.parse_math": False,  # a name that contains `$` is no formula
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "font.size": 9,
        "savefig.dpi": 110,
        "savefig.bbox": "tight",
    }
)

_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Section:
    """A part of a page under its title, of which all but the title may be missing. `note`: what it
    says, a paragraph a line. `name`: of the picture, for its file and in wandb."""

    title: str
    table: pd.DataFrame | None = None
    note: str = ""
    figure: Figure | None = None
    name: str = ""


def write_page(
    path: Path,
    name: str,
    sentence: str,
    sections: Iterable[Section],
    config: str,
    figures: Path | None = None,
) -> dict[str, Path]:
    """Writes the page, and NAME.png for each picture; returns the pictures by their names.

    `sentence`: what stands below the title. `config`: the settings as YAML, which end the page.
    `figures`: the folder of the pictures, by default figures/ beside the page."""
    sections = list(sections)
    pictures = {}
    for part in sections:
        if part.figure is not None:
            pictures[part.name] = (figures or path.parent / "figures") / f"{part.name}.png"
            pictures[part.name].parent.mkdir(parents=True, exist_ok=True)
            part.figure.savefig(pictures[part.name])
    page = _PAGES.get_template("page.html.j2").render(
        name=name,
        sentence=sentence,
        sections=sections,
        config=config,
        svg=_svg,
        texts=texts,
        most=MOST_ROWS,
    )
    write_text(path, page)
    return pictures


def _svg(figure: Figure) -> Markup:
    """The picture as an element of the page. matplotlib escapes its words."""
    drawn = io.StringIO()
    figure.savefig(
        drawn,
        format="svg",
        transparent=True,
        metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
    )
    text = drawn.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    least = NARROWEST * figure.get_figwidth()
    return Markup(re.sub("<svg", f'<svg style="min-width: {least:.1f}in"', text, count=1))


def texts(table: pd.DataFrame) -> list[list[str]]:
    """The cells of a table as text, row by row."""
    found: list[list[str]] = table.map(_text).to_numpy().tolist()
    return found


def _text(value: Any) -> str:
    """Floats with three decimals, small ones with two digits; a missing number is an empty text."""
    if isinstance(value, float | np.floating):
        number = float(value)
        return (
            ""
            if np.isnan(number)
            else f"{number:z.3f}"
            if number == 0 or abs(number) >= 0.01
            else f"{number:.2g}"
        )
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)
