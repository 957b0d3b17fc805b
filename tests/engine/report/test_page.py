"""A page is whole in itself: no script, no request, nothing in it is taken for HTML, and it stays small."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from autolora.engine.report import figures
from autolora.engine.report.page import Section, write_page
from autolora.engine.search.trajectory import Trajectory
from autolora.engine.tracking.picture import rank_figure
from tests.helpers.pages import Page
from tests.helpers.verdict_file import FOUND

EVIL = "<script>alert(1)</script> $\\frac"


def test_words_are_text_wherever_they_stand(tmp_path: Path) -> None:
    parts = [
        Section(EVIL, pd.DataFrame({EVIL: [EVIL, "b"], "n": [1234.5, float("nan")]}), f"{EVIL}\nsecond"),
        Section("map", figure=rank_figure([f"{EVIL}.0.q", f"{EVIL}.1.q", "x.0.k"], [1, 2, 3], 4), name="map"),
    ]
    made = write_page(tmp_path / "report.html", EVIL, EVIL, parts, f"note: </pre>{EVIL}")
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(content)
    assert "script" not in page.tags
    assert page.text.count(EVIL) >= 6
    assert "1234.500" in page.text
    assert "Second." in page.text
    assert made == {"map": tmp_path / "figures" / "map.png"}
    with Image.open(made["map"]) as drawn:
        assert len(drawn.convert("RGB").getcolors(100_000) or ()) > 5


def test_a_page_loads_nothing_and_its_pictures_have_the_colour_of_its_text(tmp_path: Path) -> None:
    history = searched(61, 8, 40)
    parts = [Section("alpha", figure=figures.alpha(history, "softmax", bounded=True), name="alpha")]
    for name in ("a", "b"):
        write_page(tmp_path / f"{name}.html", "x", "y", parts, "seed: 0")
    content = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert all(source.startswith(("data:", "#")) for source in Page(content).loaded)
    assert not re.search(r"url\((?!#)|@import", content)
    assert "currentColor" in content
    assert content == (tmp_path / "b.html").read_text(encoding="utf-8")


def searched(layers: int, k: int, points: int) -> Trajectory:
    """A search whose alphas have moved at random."""
    rng = np.random.default_rng(0)
    history = Trajectory([f"encoder.layer.{i // 6}.{'abcdef'[i % 6]}" for i in range(layers)])
    beta = np.zeros((layers, k))
    for step in range(points):
        beta += 0.1 * rng.normal(size=beta.shape)
        alpha = torch.from_numpy(beta).softmax(1)
        history.add(10 * step, alpha, alpha)
    return history


def test_alpha_has_a_panel_for_each_layer_or_one_map_and_the_page_stays_below_a_megabyte(tmp_path: Path) -> None:
    history = searched(60, 16, 300)
    figure = figures.alpha(history, "softmax", bounded=True)
    assert len(figure.axes) == 60
    first = figure.axes[0].lines
    assert np.allclose(first[0].get_ydata()[[0, -1]], [history.alpha[0][0, 0], history.alpha[-1][0, 0]])
    assert first[-1].get_ydata()[0] == 1 / 16
    write_page(tmp_path / "report.html", "x", "y", [Section("alpha", figure=figure, name="alpha")], "")
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    (image,) = figures.alpha(searched(61, 8, 30), "softmax", bounded=False).axes[0].images
    shown = image.get_array()
    assert shown is not None
    assert shown.shape == (61, 30)
    assert (shown[:, 0] <= 8).all()


def test_a_verdicts_points_are_above_zero_where_the_learned_ranks_were_better() -> None:
    (axes,) = figures.pairs(FOUND["arms"], FOUND["interval"]).axes
    points = {str(line.get_label()): np.round(line.get_ydata(), 6).tolist() for line in axes.lines[1:]}
    assert points == {"shuffled": [0.2, 0.1, 0.3], "uniform": [-0.1, 0, -0.1]}


def test_the_curve_and_the_shares_show_their_intervals() -> None:
    cuts = pd.DataFrame({"cut": ["even"], "rank": [2], "kept": [0.9], "low": [0.8], "high": [0.95]})
    (axes,) = figures.curve(cuts, 0.95).axes
    (bars,) = axes.containers
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[:, 1].round(6).tolist() == [80, 95]
    layers = pd.DataFrame({"layer": ["a", "b"], "share": [0.9, 0.1], "low": [0.8, -0.05], "high": [0.99, 0.25]})
    (axes,) = figures.shares(layers).axes
    assert [patch.get_width() for patch in axes.patches] == pytest.approx([90, 10])
    (segment, _) = axes.containers[0].lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([80, 99])
