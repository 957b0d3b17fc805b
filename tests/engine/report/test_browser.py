"""The pages in a real browser: nothing is complained of or asked of a network, and choosing a layer changes charts."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.report.stage import write_report
from autolora.engine.run.folder import RunFolder
from autolora.engine.search.trajectory import Trajectory
from autolora.engine.study.beside import beside
from autolora.engine.tracking.metrics_file import MetricsFile
from tests.helpers.browser import Browser, find_chromium
from tests.helpers.evidence import evidence_of
from tests.helpers.rank_records import record_by_threshold

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

EVIL = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">.0.query"
LARGEST_PAGE = 6_000_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def fresh(browser: Browser) -> Browser:
    browser.requests.clear()
    browser.complaints.clear()
    browser.look(1200)
    return browser


@pytest.fixture(scope="module")
def large(make_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A search of 48 layers, k = 8, 500 logged points, with all that is measured after it, and one layer's name meant
    to harm."""
    root = tmp_path_factory.mktemp("large")
    folder = RunFolder(root / "runs" / "tiny")
    names = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(24) for p in "qv"]
    names[3] = EVIL
    random = np.random.default_rng(0)
    beta = np.cumsum(random.normal(0, 0.05, (500, 48, 8)), axis=0) + random.normal(0, 0.4, (1, 48, 8))
    alpha = torch.from_numpy(beta).softmax(dim=2).float()
    history = Trajectory(names)
    metrics = MetricsFile(folder.search_metrics)
    for point in range(500):
        history.add(10 * point, alpha[point], alpha[point] * point / 500)
        metrics.add({"step": 10 * point, "train_loss": 0.5, "val_loss": 0.6, "implicit_to_direct": 1.0, "cosine": 0.2})
    history.write(folder.trajectory)
    write_json(folder.search_summary, {"parameters_per_rank": dict.fromkeys(names, 100)})
    record = record_by_threshold(names, alpha[-1])
    layers = tuple(
        dataclasses.replace(
            layer,
            layer_share=0.01,
            layer_share_standard_error=0.006 * (i % 2),
            layer_part_standard_error=0.01,
            decided=i % 2 == 0,
        )
        for i, layer in enumerate(record.layers)
    )
    ranks.save(dataclasses.replace(record, layers=layers, evidence=evidence_of()), folder.ranks)
    write_report(make_config(root, "bert"), folder)
    return folder


def quiet(browser: Browser, page: Path) -> None:
    """Asserts that nothing was complained of and only the page itself was asked for."""
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {page.resolve().as_uri()}


def settled(browser: Browser, element: str) -> bytes:
    """Picture of an element once it no longer changes."""
    last = browser.picture(element)
    for _ in range(50):
        time.sleep(0.1)
        now = browser.picture(element)
        if now == last:
            return now
        last = now
    raise AssertionError(f"{element} keeps changing")


def test_the_large_page_is_small_enough(fresh: Browser, large: RunFolder) -> None:
    assert large.report.stat().st_size < LARGEST_PAGE
    fresh.open(large.report)
    quiet(fresh, large.report)


def test_a_layer_is_chosen_by_keyboard(fresh: Browser, large: RunFolder) -> None:
    fresh.open(large.report)
    before = {name: settled(fresh, name) for name in ("alpha-chart", "contribution-chart", "scatter")}
    fresh.value("document.getElementById('layer').focus()")
    fresh.press("ArrowDown", 40)
    assert fresh.value("document.getElementById('chosen').textContent") == "model.layers.0.self_attn.v_proj"
    assert fresh.value("location.hash") == "#layer=1"
    for name, picture in before.items():
        assert settled(fresh, name) != picture, name
    fresh.press("ArrowUp", 38)
    assert fresh.value("location.hash") == "#layer=0"
    quiet(fresh, large.report)


def test_the_chart_shows_the_chosen_layers_numbers(fresh: Browser, large: RunFolder) -> None:
    fresh.open(large.report)
    fresh.value("document.getElementById('layer').value = '47'")
    fresh.value("document.getElementById('layer').dispatchEvent(new Event('change'))")
    source = "Bokeh.documents.map(d => d.get_model_by_name('alpha-curves')).find(m => m).data"
    shown = fresh.value(f"Array.from({{length: 8}}, (_, j) => Array.from({source}[`c${{j}}`]))")
    frame = pd.read_parquet(large.trajectory)
    alpha = frame["alpha"].to_numpy().reshape(500, 48, 8)
    assert np.abs(np.array(shown) - alpha[:, 47].T).max() < 2e-5


@pytest.mark.parametrize("chart", ["rank-map", "shares"])
def test_a_click_on_a_layer_chooses_it(fresh: Browser, large: RunFolder, chart: str) -> None:
    fresh.open(large.report)
    settled(fresh, chart)
    x, y, width, height = fresh.value(
        f"(() => {{ const e = document.getElementById('{chart}'); e.scrollIntoView();"
        "const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
    )
    if chart == "shares":  # layers down, bars from the left
        fresh.click(x + 0.2 * width, y + 0.8 * height)
        time.sleep(0.3)
        assert int(fresh.value("document.getElementById('layer').value")) > 30
        return
    fresh.click(x + 0.8 * width, y + 0.25 * height)
    time.sleep(0.3)
    assert int(fresh.value("document.getElementById('layer').value")) > 30


@pytest.mark.parametrize("scripts", [True, False])
def test_a_name_is_shown_and_not_run(fresh: Browser, large: RunFolder, scripts: bool) -> None:
    fresh.look(1200, scripts=scripts)
    fresh.open(large.report, ready=None if not scripts else "document.documentElement?.dataset.ready === 'yes'")
    if not scripts:
        time.sleep(1.0)
    assert EVIL in fresh.value("document.body.textContent")
    assert fresh.value("document.title") == "tiny: LoRA ranks"
    assert fresh.value("document.querySelectorAll('img[src=x]').length") == 0
    quiet(fresh, large.report)


def test_an_address_may_name_the_layer(fresh: Browser, large: RunFolder) -> None:
    fresh.open(large.report)
    fresh.value("location.hash = '#layer=3'")
    time.sleep(0.2)
    assert fresh.value("document.getElementById('chosen').textContent") == EVIL
    fresh.value("location.hash = '#layer=99'")
    time.sleep(0.2)
    assert fresh.value("document.getElementById('layer').value") == "3"
    fresh.value("location.hash = '#layer=3'")
    fresh.reload()
    assert fresh.value("document.getElementById('layer').value") == "3", "the page opens at the layer of its address"
    quiet(fresh, large.report)


def test_without_scripts_the_pictures_are_there(fresh: Browser, large: RunFolder) -> None:
    fresh.look(1200, scripts=False)
    fresh.open(large.report, ready=None)
    time.sleep(1.0)
    widths = "Array.from(document.images, (i) => i.naturalWidth)"
    assert all(width > 100 for width in fresh.value(widths))
    assert fresh.value("document.images.length") == 6
    assert fresh.value("getComputedStyle(document.getElementById('alpha-chart')).display") == "none"
    quiet(fresh, large.report)


@pytest.mark.parametrize("width", [1200, 420])
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_and_the_dark_see_all(fresh: Browser, large: RunFolder, width: int, dark: bool) -> None:
    fresh.look(width, dark=dark)
    fresh.open(large.report)
    assert fresh.value("document.documentElement.scrollWidth") <= width
    back = fresh.value("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") is not dark
    quiet(fresh, large.report)


@pytest.mark.parametrize("method", ["autolora", "lora"])
def test_the_page_of_a_real_run_is_quiet(fresh: Browser, finished_run: Callable[..., RunFolder], method: str) -> None:
    page = finished_run("bert", "--method", method).report
    fresh.open(page)
    assert fresh.value("Bokeh.documents.length") == fresh.value("document.querySelectorAll('.chart').length")
    assert fresh.value("Bokeh.documents.length") >= (9 if method == "autolora" else 1)
    quiet(fresh, page)


def test_the_page_of_a_cell_shows_its_study(
    fresh: Browser, tiny_config: Callable[..., RunConfig], finished_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "study" / "cells" / "a")
    shutil.copytree(finished_run("bert").root, folder.root)
    columns = {"mean_rank": 1.0, "lora_parameters": 1, "trainable_parameters": 1, "search_seconds": 1.0}
    columns |= {
        "task": "sample",
        "method": "autolora",
        "main_metric": "f1",
        "score": 0.5,
        "log_loss": 0.7,
        "metric.f1": 0.5,
        "total_seconds": 1.0,
    }
    rows = [{"variant": m, **columns, "cell": m} for m in "ab"]
    pd.DataFrame(rows).to_parquet(tmp_path / "study" / "results.parquet")
    write_report(tiny_config(), folder, beside(folder))
    fresh.open(folder.report)
    assert fresh.value("document.getElementById('metric-0').childElementCount") == 1
    quiet(fresh, folder.report)
