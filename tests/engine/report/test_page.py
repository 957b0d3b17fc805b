"""The page loads nothing from a network, runs only its own scripts, and escapes every value."""

import base64
import hashlib
import html
import json
import re

from bokeh.embed import json_item
from bokeh.plotting import figure

from autolora.engine.report.page import embedded_json, numbered, render


def chart(name: str) -> figure:
    made = figure(name=name)
    made.line([0, 1], [2, 3])
    return made


def study_page(charts: dict[str, figure], name: str = "x") -> str:
    tables = [("Results", "a note", ["method"], [["lora"]])]
    return render(
        "study.html.j2", charts=charts, name=name, sentence="s", tables=tables, metric_charts=list(charts),
        metric_image="data:,", pictures=[], config="seed: 0",
    )  # fmt: skip


def policy(text: str) -> str:
    (found,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    return html.unescape(found)


def test_the_policy_lets_these_scripts_run_and_no_other() -> None:
    text = study_page({"metric-0": chart("metric-0")})
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 2
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert f"script-src {allowed}" in policy(text).split("; ")
    assert "default-src 'none'" in policy(text).split("; ")


def test_without_charts_nothing_may_run() -> None:
    text = study_page({})
    assert "script-src 'none'" in policy(text).split("; ")
    assert not re.findall(r"<script>", text)


def test_what_is_put_in_is_escaped() -> None:
    text = study_page({}, name="<img src=x onerror=alert(1)>")
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text


def test_json_in_a_page_cannot_end_its_element() -> None:
    value = {"</script>": "<!-- & ]]>"}
    text = str(embedded_json(value))
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_a_chart_is_the_same_text_each_time_and_its_references_hold() -> None:
    first, second = (numbered(json_item(chart("c"))) for _ in range(2))
    assert first == second
    text = json.dumps(first)
    ids = set(re.findall(r'"id": "([^"]*)"', text)) | set(re.findall(r'"root_id": "([^"]*)"', text))
    assert ids == {f"c-{i}" for i in range(len(ids))}
    assert first["root_id"] == first["doc"]["roots"][0]["id"]
