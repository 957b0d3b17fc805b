"""Make a self-contained page: template, charts (Bokeh) and data in one file that loads nothing from a network."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bokeh.embed import json_item
from bokeh.model import Model
from bokeh.resources import INLINE
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

_HERE = Path(__file__).parent
_PAGES = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def render(template: str, *, charts: Mapping[str, Model], data: Mapping[str, Any] | None = None, **values: Any) -> str:
    """A page from a template of this folder; all values are escaped.

    `charts`: id of an element of the page -> chart. `data`: further values for page.js. Without charts the page has no
    script.
    """
    scripts = [bokeh_code(), Markup((_HERE / "page.js").read_text(encoding="utf-8"))] if charts else []
    payload = {"charts": {name: numbered(json_item(chart)) for name, chart in charts.items()}, **(data or {})}
    # The browser runs only these two scripts, even if a value in the page contains another one, and loads nothing.
    allowed = " ".join(map(_hash, scripts)) or "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return _PAGES.get_template(template).render(
        scripts=scripts, policy=policy, payload=embedded_json(payload), charts=charts, **values
    )


@cache
def bokeh_code() -> Markup:
    """BokehJS without the parts for widgets and tables, from the installed package."""
    resources = INLINE.clone(components=["bokeh"])
    return Markup("\n".join(resources.js_raw))


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def embedded_json(value: Any) -> Markup:
    """JSON that is safe inside a <script> element: none of its characters can end the element or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def numbered(item: Any) -> Any:
    """Bokeh's JSON of a figure, with the ids of its parts numbered from 0.

    Bokeh itself numbers ids through the whole process, so that two pages about one run would differ.
    """
    ids: dict[str, str] = {}
    kind = item["doc"]["roots"][0]["attributes"].get("name", "chart")

    def count(found: re.Match[str]) -> str:
        return f'{found[1]}"{ids.setdefault(found[2], f"{kind}-{len(ids)}")}"'

    # In JSON, quotes inside a text are escaped by backslashes, so the pattern matches no text by mistake.
    return json.loads(re.sub(r'("(?:id|root_id)": )"([^"\\]*)"', count, json.dumps(item)))


def inline_image(path: Path) -> str:
    """A PNG as a data: address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
