"""The page about a run: whole in itself, nothing in it is taken for HTML, and it is there for ranks by hand too."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.cli import Request
from configs.schema import RunConfig
from engine.interrupt import StopRequest
from engine.report import write_report
from engine.run_folder import RunFolder
from engine.stages import run_stages


class Page(HTMLParser):
    """What a page loads, shows and would run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [
            value or "" for name, value in attributes if name in ("src", "href", "srcset", "data", "action")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def drawn(path: Path) -> bool:
    """Whether a picture shows anything."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    return min(pixels.shape[:2]) > 50 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5


def test_the_page_loads_nothing_from_elsewhere(finished_run: Callable[..., RunFolder]) -> None:
    folder = finished_run("bert")
    content = folder.report.read_text(encoding="utf-8")
    page = Page(content)
    assert len(page.loaded) == 3
    for source, name in zip(page.loaded, ("ranks.png", "alpha.png", "losses.png"), strict=True):
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data, validate=True) == (folder.figures / name).read_bytes()
        assert drawn(folder.figures / name)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"url\(|@import", content)


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
    assert not {"script", "b"} & set(page.tags)
    assert page.tags.count("img") == 1
    assert html.escape(evil, quote=False) in content


def test_stage_report_draws_ranks_written_by_hand(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Neither a search nor a config.yaml is there."""
    folder = RunFolder(tmp_path / "runs" / "tiny")
    folder.root.mkdir(parents=True)
    names = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(3) for p in "qv"]
    folder.ranks.write_text(json.dumps({"layers": [{"name": n, "rank": i} for i, n in enumerate(names)]}))
    run_stages(Request(tiny_config(), "report", False, "x"), StopRequest())
    assert [path.name for path in folder.figures.iterdir()] == ["ranks.png"]
    assert drawn(folder.figures / "ranks.png")
    assert all(name in Page(folder.report.read_text()).text for name in names)


@pytest.mark.parametrize("constraint", ["none", "sigmoid"])
def test_the_ablations_are_drawn_too(tiny_config: Callable[..., RunConfig], constraint: str) -> None:
    config = tiny_config("--search.constraint", constraint, "--search.steps", "2")
    folder = run_stages(Request(config, "search", False, "x"), StopRequest())
    assert drawn(folder.figures / "alpha.png")
    assert f"constraint {constraint}" in Page(folder.report.read_text()).text


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
