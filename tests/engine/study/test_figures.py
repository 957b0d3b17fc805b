"""The pictures of a study show the numbers that they were given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autolora.engine.study import figures as study_figures
from autolora.engine.study.rows import REFERENCE


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved, still open to questions."""
    saved: list[Any] = []
    original: Callable[..., None] = study_figures.save_figure
    monkeypatch.setattr(
        study_figures, "save_figure", lambda figure, path: (saved.append(figure), original(figure, path))
    )
    return saved


def test_a_panel_a_task_with_ticks_at_medians_and_a_point_a_run(tmp_path: Path, kept: list[Any]) -> None:
    rows = [("a", 0, 0.1), ("a", 1, 0.3), ("a", 2, 0.9), ("b", 0, 0.5)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "score"]).assign(task="t", main_metric="f1")
    other = frame[frame["method"] == "b"].assign(task="u", main_metric="accuracy")
    study_figures.metric_by_row(pd.concat([frame, other]), ["method", "seed"], tmp_path / "m.png")
    first, second = kept[0].axes
    medians, points = first.lines
    assert list(medians.get_xdata()) == [0.3, 0.5]
    assert list(points.get_xdata()) == [0.1, 0.3, 0.9, 0.5]
    assert list(points.get_ydata()) == [0, 0, 0, 1]
    assert [t.get_text() for t in first.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in second.get_yticklabels()] == ["b"]
    assert (first.get_xlabel(), second.get_xlabel()) == ("f1, t", "accuracy, u")
    assert first.yaxis_inverted(), "the first row is on top"
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"


def test_a_panel_an_eta_with_a_curve_an_approximation(tmp_path: Path, kept: list[Any]) -> None:
    rows = [
        {"step": step, "approximation": name, "eta": eta, "cosine": step / 10 if name == "darts" else 0.0}
        for eta in ("lr", "1.0")
        for name in ("first_order", "darts", "exact")
        for step in (1, 4)
    ]
    study_figures.cosine_over_training(pd.DataFrame(rows), tmp_path / "c.png")
    above, below = kept[0].axes[:2], kept[0].axes[2:]
    assert [axes.get_title() for axes in above] == ["eta = lr", "eta = 1.0"]
    for axes in below:
        assert axes.get_yscale() == "log"
        assert list(axes.lines[0].get_ydata()) == [0.9, 0.6]
    for axes in above:
        assert [line.get_label() for line in axes.lines] == ["darts", "exact"], "first order has no implicit term"
        assert list(axes.lines[0].get_xdata()) == [1, 4]
        assert list(axes.lines[0].get_ydata()) == [0.1, 0.4]


def test_no_two_approximations_are_drawn_alike(tmp_path: Path, kept: list[Any]) -> None:
    """The eleventh had the colour of the first."""
    names = [f"{'mine/' * 20}own.py:Method{number}" for number in range(12)]
    rows = [{"step": step, "approximation": name, "eta": "lr", "cosine": 1.0} for name in names for step in (1, 2)]
    study_figures.cosine_over_training(pd.DataFrame(rows), tmp_path / "cosine.png")
    lines = kept[0].axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12
    assert max(len(line.get_label()) for line in lines) == 39


def test_a_bar_from_the_worst_to_the_best_seed_at_the_cost_of_a_step(tmp_path: Path, kept: list[Any]) -> None:
    scores = {"darts": [0.2, 0.5, 0.6], "exact": [0.7, 0.7, 0.7]}
    control = {"none": [0.1]}  # a search without outer steps: no approximation, of which no step was timed
    rows = [(name, value) for name, found in (scores | control).items() for value in found]
    results = pd.DataFrame(rows, columns=["variant", "score"]).assign(main_metric="f1", task="t", options="{}")
    results["searched_by"] = results["variant"]
    other = results.assign(score=-1.0, main_metric="matthews", task="u")
    cost = pd.DataFrame({"approximation": ["lora", "exact", "darts"], "ratio_to_lora": [1.0, 9.0, 4.0]})
    both = pd.concat([results, other])
    study_figures.metric_against_cost(both, ["variant"], cost, tmp_path / "c.png")
    axes, second = kept[0].axes
    assert (axes.get_ylabel(), second.get_ylabel()) == ("f1, t", "matthews, u"), "tasks are not mixed"
    found = {}
    for bars in axes.containers:
        point, _, (range_,) = bars
        found[bars.get_label()] = (point.get_xdata()[0], point.get_ydata()[0], range_.get_segments()[0][:, 1])
    assert found.keys() == scores.keys()
    assert found["darts"][:2] == (4.0, 0.5)
    assert found["exact"][:2] == (9.0, 0.7)
    assert np.allclose(found["darts"][2], [0.2, 0.6])


def test_the_cost_of_a_type_with_several_options_is_that_of_its_options() -> None:
    rows = [
        ("darts", "{}"),
        (None, None),
        ("mine.py:Mine", "{rate: 0.1}"),
        ("mine.py:Mine", "{rate: 0.2}"),
        ("none", "{}"),
    ]
    results = pd.DataFrame(rows, columns=["searched_by", "options"])
    names = ["darts", "mine.py:Mine {rate: 0.1}", "mine.py:Mine {rate: 0.2}"]
    cost = pd.DataFrame({"approximation": names, "ratio_to_lora": [4.0, 5.0, 6.0]})
    assert study_figures.timed(results, cost)["step_cost"].tolist() == [4.0, 5.0, 6.0]


def test_the_outer_loss_stands_at_the_cost_of_a_step(tmp_path: Path, kept: list[Any]) -> None:
    rows = [("darts", 0.2), ("darts", 0.4), ("exact", 0.3), ("exact", None), ("none", 0.1)]
    results = pd.DataFrame(rows, columns=["hypergradient.type", "outer_loss"]).assign(task="t", options="{}")
    results["searched_by"] = results["hypergradient.type"]
    cost = pd.DataFrame({"approximation": ["lora", "exact", "darts"], "ratio_to_lora": [1.0, 9.0, 4.0]})
    study_figures.outer_loss_against_cost(results, ["hypergradient.type"], cost, tmp_path / "c.png")
    (axes,) = kept[0].axes
    assert axes.get_ylabel() == "L_val after the search\n(nats, less is better), t"
    points = {bars.get_label(): bars[0].get_xydata()[0].tolist() for bars in axes.containers}
    assert points == {"darts": pytest.approx([4.0, 0.3]), "exact": pytest.approx([9.0, 0.3])}


def test_the_outer_loss_is_drawn_minus_that_of_the_first_row_at_the_same_seed(tmp_path: Path, kept: list[Any]) -> None:
    """Seeds differed by a hundred times as much as approximations, so that all points were one."""
    rows = [("darts", 0, 0.2), ("darts", 1, 0.4), ("exact", 0, 0.19), ("exact", 1, 0.42), ("exact", 2, 0.9)]
    results = pd.DataFrame(rows, columns=["hypergradient.type", "seed", "outer_loss"]).assign(task="t", options="{}")
    results["searched_by"] = results["hypergradient.type"]
    cost = pd.DataFrame({"approximation": ["exact", "darts"], "ratio_to_lora": [9.0, 4.0]})
    study_figures.outer_loss_against_cost(results, ["hypergradient.type", "seed"], cost, tmp_path / "c.png")
    (axes,) = kept[0].axes
    assert "minus that of darts at the same seed" in axes.get_ylabel()
    points = {bars.get_label(): bars[0].get_xydata()[0].tolist() for bars in axes.containers}
    assert points == {"darts": pytest.approx([4.0, 0.0]), "exact": pytest.approx([9.0, 0.005])}, "not seed 2"


@pytest.mark.parametrize(
    ("reference", "name", "at_cost"),
    [
        ("none", "none", {"darts": 0.1, "exact": 0.3}),  # not drawn, as it takes no outer step
        ("exact", "exact", {"darts": -0.2, "exact": 0.0}),
        ("lora", "darts", {"darts": 0.0, "exact": 0.2}),  # has no L_val, so that the first row is the reference
    ],
)
def test_the_outer_loss_is_drawn_minus_that_of_the_chosen_reference(
    tmp_path: Path, kept: list[Any], reference: str, name: str, at_cost: dict[str, float]
) -> None:
    losses = {"lora": None, "none": 0.2, "darts": 0.3, "exact": 0.5}
    rows = [(variant, seed, loss and loss + seed) for variant, loss in losses.items() for seed in (0, 1)]
    results = pd.DataFrame(rows, columns=["variant", "seed", "outer_loss"]).assign(task="t", options="{}")
    results["searched_by"] = results["variant"].where(results["variant"] != "lora", None)
    results[REFERENCE] = results["variant"] == reference
    cost = pd.DataFrame({"approximation": ["exact", "darts"], "ratio_to_lora": [9.0, 4.0]})
    study_figures.outer_loss_against_cost(results, ["variant", "seed"], cost, tmp_path / "c.png")
    (axes,) = kept[0].axes
    assert f"minus that of {name} at the same seed" in axes.get_ylabel()
    points = {bars.get_label(): bars[0].get_ydata()[0] for bars in axes.containers}
    assert points == pytest.approx(at_cost)
