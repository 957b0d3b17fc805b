"""The pictures of a study show the numbers that they were given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
