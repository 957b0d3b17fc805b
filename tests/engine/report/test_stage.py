"""The page about a run: whole in itself, nothing in it is taken for HTML, and it is there for ranks by hand too."""

import base64
import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bokeh.plotting import figure
from PIL import Image

from configs.requests import Request
from configs.schema import RunConfig
from engine.report.stage import Beside, write_report
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.search import trajectory
from engine.stages import run_stages


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


def drawn(path: Path) -> bool:
    """Whether a picture shows anything."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    return min(pixels.shape[:2]) > 50 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5


@pytest.mark.trains
def test_the_page_loads_nothing_from_elsewhere(finished_run: Callable[..., RunFolder]) -> None:
    folder = finished_run("bert")
    content = folder.report.read_text(encoding="utf-8")
    page = Page(content)
    names = ("ranks.png", "alpha.png", "rank_evolution.png", "losses.png")
    assert len(page.loaded) == len(names)
    for source, name in zip(page.loaded, names, strict=True):
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data, validate=True) == (folder.figures / name).read_bytes()
        assert drawn(folder.figures / name)
    assert page.tags.count("script") == 3, "the data, Bokeh and ours"
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" in html.unescape(
        content
    )


@pytest.mark.trains
def test_the_page_holds_the_numbers_of_the_search(finished_run: Callable[..., RunFolder]) -> None:
    folder = finished_run("bert")
    payload = Page(folder.report.read_text(encoding="utf-8")).payload
    history = trajectory.read(folder.trajectory)
    assert payload["names"] == history.names
    assert payload["steps"] == history.steps
    assert payload["bounds"] == [0.25] * 4
    expected = np.stack(history.alpha).transpose(1, 2, 0).ravel()
    packed = payload["alpha"]
    codes = np.frombuffer(base64.b64decode(packed["data"]), "<u2")
    found = packed["low"] + codes * (packed["high"] - packed["low"]) / 65535
    assert np.abs(found - expected).max() < 1e-5
    charts = {"rank-map", "alpha-chart", "contribution-chart", "evolution", "scatter", "losses", "ratio", "cosine"}
    assert payload["charts"].keys() == charts


@pytest.mark.trains
def test_the_page_shows_result_ranks_and_configuration(finished_run: Callable[..., RunFolder]) -> None:
    folder = finished_run("bert")
    page = Page(folder.report.read_text(encoding="utf-8"))
    result, record = json.loads(folder.metrics.read_text()), json.loads(folder.ranks.read_text())
    assert f"{result['metrics']['accuracy']:.4f}" in page.text
    assert f"{result['lora_parameters']:,}" in page.text
    for layer in record["layers"]:
        assert re.search(rf"{re.escape(layer['name'])}\s*{layer['rank']}\s*{layer['alpha'][0]:.3f}", page.text)
    assert folder.config.read_text().strip() in page.text


def test_names_are_text_whatever_is_in_them(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>.0.<img src=x>"
    folder = RunFolder(tmp_path / "runs" / "tiny")
    folder.root.mkdir(parents=True)
    folder.ranks.write_text(json.dumps({"layers": [{"name": evil, "rank": 2}]}))
    config = tiny_config("--model.name", "<b>model</b>")
    folder.config.write_text("note: </pre><script>x</script>\n")
    write_report(config, folder)
    content = folder.report.read_text(encoding="utf-8")
    page = Page(content)
    assert "b" not in page.tags
    assert page.tags.count("img") == 1
    assert len(page.scripts) == page.tags.count("script") == 3
    assert html.escape(evil, quote=False) in content
    assert evil not in content
    cells = next(e for e in entries(page.payload["charts"]["rank-map"]) if e[0] == "layer")
    assert cells[1] == [evil]


def entries(node: Any) -> Iterator[list[Any]]:
    """Every [column, values] in a Bokeh document."""
    if isinstance(node, dict):
        yield from (entry for value in node.values() for entry in entries(value))
    elif isinstance(node, list):
        if len(node) == 2 and isinstance(node[0], str):
            yield node
        yield from (entry for value in node for entry in entries(value))


@pytest.mark.trains
def test_a_name_that_ends_the_script_does_not(
    tiny_config: Callable[..., RunConfig], finished_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """Names of layers stand in the data of the page too."""
    evil = "</script><script>alert(1)</script>"
    source = finished_run("bert")
    folder = RunFolder(tmp_path / "runs" / "tiny")
    shutil.copytree(source.root, folder.root)
    old = trajectory.read(folder.trajectory).names[0]
    record = folder.ranks.read_text().replace(old, evil)
    folder.ranks.write_text(record)
    frame = pd.read_parquet(folder.trajectory)
    frame["layer"] = frame["layer"].replace(old, evil)
    frame.to_parquet(folder.trajectory)
    write_report(tiny_config(), folder)
    page = Page(folder.report.read_text(encoding="utf-8"))
    assert len(page.scripts) == page.tags.count("script") == 3
    assert page.payload["names"][0] == evil
    assert evil in page.text


def test_the_block_about_a_study_is_on_the_page_when_it_is_given(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "runs" / "tiny")
    for mine, marked in ((1, ["lora 0.5"]), (None, [])):
        made = Beside("compare", ["method", "f1"], [["full", " 0.7"], ["lora", " 0.5"]], mine, {"metric-0": figure()})
        write_report(tiny_config(), folder, made)
        page = folder.report.read_text(encoding="utf-8")
        found = re.findall(r'<tr class="mine">.*?</tr>', page, re.S)
        assert [Page(row).text for row in found] == marked
        assert ("The marked row" in page) is bool(marked)
        assert "other runs of the study compare" in Page(page).text
        assert "metric-0" in Page(page).payload["charts"]


@pytest.mark.trains
def test_stage_report_draws_ranks_written_by_hand(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Neither a search nor a config.yaml is there."""
    folder = RunFolder(tmp_path / "runs" / "tiny")
    folder.root.mkdir(parents=True)
    names = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(3) for p in "qv"]
    layers = [{"name": n, "rank": i} for i, n in enumerate(names)]
    folder.ranks.write_text(json.dumps({"layers": layers, "note": "an expert's guess"}))
    run_stages(Request(tiny_config(), "report", False, "x"), StopRequest())
    assert [path.name for path in folder.figures.iterdir()] == ["ranks.png"]
    assert drawn(folder.figures / "ranks.png")
    assert all(words in Page(folder.report.read_text()).text for words in (*names, "an expert's guess"))


@pytest.mark.trains
@pytest.mark.parametrize("constraint", ["none", "sigmoid"])
def test_the_ablations_are_drawn_too(tiny_config: Callable[..., RunConfig], constraint: str) -> None:
    config = tiny_config("--search.constraint", constraint, "--search.steps", "2")
    folder = run_stages(Request(config, "search", False, "x"), StopRequest())
    assert drawn(folder.figures / "alpha.png")
    assert f"constraint {constraint}" in Page(folder.report.read_text()).text


@pytest.mark.trains
def test_drawing_again_gives_the_same_page_and_touches_nothing_else(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    source = finished_run("bert")
    folder = RunFolder(tmp_path / "runs" / "tiny")
    shutil.copytree(source.root, folder.root)
    folder.report.unlink()
    shutil.rmtree(folder.figures)
    run_stages(Request(tiny_config(), "report", False, "x"), StopRequest())
    for path in source.root.rglob("*"):
        if path.is_file():
            assert (folder.root / path.relative_to(source.root)).read_bytes() == path.read_bytes(), path
