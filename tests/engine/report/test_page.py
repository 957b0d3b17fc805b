"""A page is whole in itself, and that of a run holds the numbers of its files."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.report import figures
from autolora.engine.report.page import Section, write_page
from autolora.engine.report.stage import write_report
from autolora.engine.search.searched import Trajectory
from autolora.engine.store.folder import RunFolder
from autolora.engine.terminal.rank_map import RankMap
from autolora.engine.tracking.picture import rank_figure
from tests.helpers.evidence import evidence_of

FOUND: dict[str, Any] = {
    "sentence": "Places matter: by a lot.",
    "recommendation": "Use these ranks.",
    "interval": [0.1, 0.3],
    "metric": "accuracy",
    "arms": [
        {
            "name": "learned",
            "losses": [0.5, 0.6, 0.4],
            "scores": [0.9, 0.8, 0.7],
            "parameters": 100,
        },
        {
            "name": "shuffled",
            "losses": [0.7, 0.7, 0.7],
            "scores": [0.5, 0.5, 0.5],
            "parameters": 100,
        },
        {
            "name": "uniform",
            "losses": [0.4, 0.6, 0.3],
            "scores": [0.5, 0.5, 0.5],
            "parameters": 400,
        },
    ],
}
"""What a page reads of verdict.json."""


def test_a_logarithmic_axis_below_a_decade_has_numbers_that_can_be_read(tmp_path: Path) -> None:
    points = [{"step": step, "x": value} for step, value in enumerate((0.3, 1.1, 1.0))]
    figure = figures.over_steps(points, {"x": "x"}, "log")
    write_page(tmp_path / "report.html", "x", "y", [Section("x", figure=figure, name="x")], "")
    assert "mathdefault" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    figure = figures.over_steps([{"step": 0, "x": 1.0}], {"x": r"$a$ and $\b$"})
    write_page(tmp_path / "report.html", "x", "y", [Section("x", figure=figure, name="x")], "")
    assert r">$a$ and $\b$</" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_loads_nothing_and_its_pictures_have_the_colour_of_its_text(tmp_path: Path) -> None:
    history = searched(4, 8, 40)
    parts = [Section("alpha", figure=figures.alpha(history, "softmax", bounded=True), name="alpha")]
    for name in ("a", "b"):
        write_page(tmp_path / f"{name}.html", "x", "y", parts, "seed: 0")
    content = (tmp_path / "a.html").read_text(encoding="utf-8")
    loaded = re.findall(r'\b(?:src|href|srcset|data|action)="([^"]*)"', content)
    assert all(source.startswith(("data:", "#")) for source in loaded)
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


def test_alpha_has_a_panel_for_each_layer_or_one_map_of_few_points() -> None:
    history = searched(60, 16, 300)
    figure = figures.alpha(history, "softmax", bounded=True)
    assert len(figure.axes) == 60
    assert (
        sum(len(line.get_xdata()) for axes in figure.axes for line in axes.lines[:-1])
        <= figures.MOST_POINTS
    )
    first = figure.axes[0].lines
    assert np.allclose(
        first[0].get_ydata()[[0, -1]], [history.alpha[0][0, 0], history.alpha[-1][0, 0]]
    )
    assert first[-1].get_ydata()[0] == 1 / 16
    (image,) = figures.alpha(searched(61, 8, 30), "softmax", bounded=False).axes[0].images
    shown = image.get_array()
    assert shown is not None
    assert shown.shape == (61, 30)
    assert (shown[:, 0] <= 8).all()


def test_a_verdicts_points_are_above_zero_where_the_learned_ranks_were_better() -> None:
    (axes,) = figures.pairs(FOUND["arms"], FOUND["interval"]).axes
    points = {
        str(line.get_label()): np.round(line.get_ydata(), 6).tolist() for line in axes.lines[1:]
    }
    assert points == {"shuffled": [0.2, 0.1, 0.3], "uniform": [-0.1, 0, -0.1]}


def test_the_curve_and_the_shares_show_their_intervals() -> None:
    cuts = pd.DataFrame({"cut": ["even"], "rank": [2], "kept": [0.9], "low": [0.8], "high": [0.95]})
    (axes,) = figures.curve(cuts, 0.95).axes
    (bars,) = axes.containers
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[:, 1].round(6).tolist() == [80, 95]
    layers = pd.DataFrame(
        {"layer": ["a", "b"], "part": [0.9, 0.1], "low": [0.8, -0.05], "high": [0.99, 0.25]}
    )
    (axes,) = figures.shares(layers).axes
    assert [patch.get_width() for patch in axes.patches] == pytest.approx([90, 10])
    (segment, _) = axes.containers[0].lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([80, 99])


def words_of(folder: RunFolder) -> str:
    """What a person reads of a page, a blank between two words."""
    content = folder.report.read_text(encoding="utf-8")
    return " ".join(
        html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", content, flags=re.S)).split()
    )


@pytest.mark.trains
def test_the_page_of_a_run_shows_result_ranks_and_configuration(
    finished: Callable[..., Path],
) -> None:
    folder = RunFolder(finished())
    text = words_of(folder)
    result = json.loads(folder.metrics.read_text())
    record = json.loads(folder.ranks.read_text())
    assert f"accuracy {result['metrics']['accuracy']:.3f}" in text
    assert f"lora parameters {result['lora_parameters']:,}" in text
    for layer in record["layers"]:
        assert f"{layer['name']} {layer['rank']}" in text
    assert " ".join(folder.config.read_text().split()) in text
    # where LoRA learned something
    drawn = {path.stem for path in folder.figures.iterdir()} - {"curve", "shares"}
    assert drawn == {"ranks", "alpha", "losses", "hypergradient", "cosine", "retrain_loss"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "runs" / "tiny")
    made.search.mkdir(parents=True)
    return made


def test_the_page_says_what_d_val_says(
    tiny_config: Callable[..., RunConfig], folder: RunFolder
) -> None:
    """The first layer has all of LoRA's gain, the others only noise."""
    found = ((0, "query", 3, 0.3), (0, "value", 1, 0.011), (1, "query", 8, -0.001))
    layers = tuple(
        ranks.LayerRank(
            f"encoder.{block}.{kind}",
            rank,
            layer_share=share,
            layer_share_standard_error=0.01,
            layer_part_standard_error=0.01 / 0.31,
        )
        for block, kind, rank, share in found
    )
    ranks.save(
        ranks.RankRecord(8, layers, evidence=evidence_of(), note="D_val was small"), folder.ranks
    )
    assert {"shares", "curve", "ranks"} <= write_report(tiny_config(), folder).keys()
    text = words_of(folder)
    assert "Rank 2 is enough: cut to it, the searched model loses at most 5 % of the gain" in text
    assert "the same rank everywhere 2 600 0.308 0.960" in text
    assert re.search(
        r"0 query 3 0\.3\S* 0\.01\S* 0\.96\S+ \S+ \S+ "
        r"0 value 1 0\.011\S* 0\.01\S* 0\.03\S+ -0\.01\S+ 0\.08",
        text,
    )
    assert text.count("D_val was small") == 1


def test_the_page_shows_every_arm_of_a_verdict(
    tiny_config: Callable[..., RunConfig], folder: RunFolder
) -> None:
    write_json(folder.verdict_summary, FOUND)
    assert list(write_report(tiny_config(), folder)) == ["verdict"]
    text = words_of(folder)
    assert all(words in text for words in (FOUND["sentence"], FOUND["recommendation"]))
    assert "shuffled 100 0.700 0.500" in text


def test_a_cell_has_its_rank_in_its_place() -> None:
    (axes,) = rank_figure(["0.query", "0.value", "1.query"], [2, 3, 8], 8).axes
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert texts == {(0, 0): ("2", "black"), (0, 1): ("3", "black"), (1, 0): ("8", "white")}
    (image,) = axes.images
    assert image.get_array().filled(-1).tolist() == [[2, 8], [3, -1]]
    assert image.get_clim() == (0, 8)
    (axes,) = rank_figure(["0.q", "1.q"], [0, 64], 4).axes
    assert axes.images[0].get_clim() == (0, 64), "a rank by hand may be above k"
    terminal = Console(width=6, soft_wrap=True)  # a narrow one breaks lines, and drops nothing
    with terminal.capture() as shown:
        terminal.print(RankMap(["0.query", "0.value", "1.query"], 8, [2, 3, 8]))
    assert [line.split() for line in shown.get().splitlines()] == [
        ["block", "0", "1"],
        ["query", "2", "8"],
        ["value", "3"],
    ]
