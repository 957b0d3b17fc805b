"""The page about a run: whole in itself, nothing in it is taken for HTML, and it is there for ranks by hand too."""

import base64
import dataclasses
import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import RankRecord
from autolora.engine.report.stage import write_report
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.search import trajectory
from autolora.engine.stages import run_stages
from tests.helpers.pages import Page
from tests.helpers.rank_records import answered_record


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
    possible = (
        "curve.png",
        "shares.png",
        "ranks.png",
        "alpha.png",
        "rank_evolution.png",
        "losses.png",
        "retrain_loss.png",
    )
    names = [name for name in possible if (folder.figures / name).exists()]
    assert set(possible[2:]) <= set(names) == {path.name for path in folder.figures.iterdir()}
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
    charts |= {"retrain-loss"}
    assert payload["charts"].keys() - {"curve", "shares"} == charts, "those two only if LoRA learned something"


@pytest.mark.trains
def test_the_page_shows_result_ranks_and_configuration(finished_run: Callable[..., RunFolder]) -> None:
    folder = finished_run("bert")
    page = Page(folder.report.read_text(encoding="utf-8"))
    result, record = json.loads(folder.metrics.read_text()), json.loads(folder.ranks.read_text())
    assert f"{result['metrics']['accuracy']:.4f}" in page.text
    assert f"{result['lora_parameters']:,}" in page.text
    assert "What was predicted, class by class" in page.text
    for layer in record["layers"]:
        assert re.search(rf"{re.escape(layer['name'])}\s*{layer['rank']}\s*no\s*{layer['alpha'][0]:.3f}", page.text)
    assert folder.config.read_text().strip() in page.text


def test_names_are_text_whatever_is_in_them(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>.0.<img src=x>"
    folder = RunFolder(tmp_path / "runs" / "tiny")
    folder.root.mkdir(parents=True)
    folder.ranks.write_text(json.dumps({"layers": [{"name": evil, "rank": 2}]}))
    config = tiny_config("--model.name", "<b>model</b>")
    folder.config.write_text("note: </pre><script>x</script>\n")
    folder.log.write_text("2026-11-30 12:00:00 warning: class <b>1</b> has no row\n2026-11-30 12:00:01 step 1\n")
    write_report(config, folder)
    content = folder.report.read_text(encoding="utf-8")
    page = Page(content)
    assert "b" not in page.tags
    assert re.search(r"What the program warned of\s+class <b>1</b> has no row\s", page.text)
    assert "step 1" not in page.text
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


def words_of(page: Path) -> str:
    """What a person reads of a page, in one line."""
    content = page.read_text(encoding="utf-8").split("<script")[0]
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", content, flags=re.S)).split())


def answered(folder: RunFolder, **changes: Any) -> RankRecord:
    """A folder with a record that D_val has said something of."""
    record = answered_record(**changes)
    folder.search.mkdir(parents=True)
    ranks.save(record, folder.ranks)
    write_json(folder.search_summary, {"parameters_per_rank": {layer.name: 100 for layer in record.layers}})
    return record


def test_the_page_says_what_d_val_says(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "tiny")
    record = answered(folder, note="D_val was small")
    history = trajectory.Trajectory([layer.name for layer in record.layers])
    history.add(0, torch.full((3, 8), 0.125), torch.ones(3, 8))
    history.write(folder.trajectory)
    pictures = write_report(tiny_config(), folder)
    assert {"shares", "curve"} <= pictures.keys()
    content = folder.report.read_text(encoding="utf-8")
    page, text = Page(content), words_of(folder.report)
    assert {"shares", "curve"} <= page.payload["charts"].keys()
    assert (
        "What D_val says, the rows on which LoRA was not trained Rank 2 is enough: cut to it, the searched model "
        "loses at most 5 % of the gain. A training may need a higher rank." in text
    )
    assert text.index("What D_val says, the rows on which LoRA was not trained") < text.index(" Ranks ")
    assert "rank 2 everywhere 600 0.3080 96 % (95 to 97)" in text, "the table that needs no script"
    assert "encoder.0.value 3.55 -1.74 to 8.84 no" in text
    assert "Pale, with a dashed edge: not decided within this search." in text
    assert text.count("D_val was small") == 1
    assert "encoder.0.query 3 yes" in text
    assert "encoder.0.value 1 no" in text


def test_a_page_without_an_answer_has_no_words_about_one(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "runs" / "tiny")
    layers = tuple(dataclasses.replace(x, decided=None) for x in answered_record().layers)
    answered(folder, evidence=None, layers=layers, rule="shares")
    assert list(write_report(tiny_config(), folder)) == ["rank_map"]
    text = words_of(folder.report)
    assert not any(words in text for words in ("D_val says", "Pale, with", "decided"))


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
            made = (folder.root / path.relative_to(source.root)).read_bytes()
            same = made == path.read_bytes()  # a difference of two pages would take pytest minutes to show
            assert same, path
