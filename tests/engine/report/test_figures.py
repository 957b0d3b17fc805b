"""The pictures show the numbers that they were given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolora.engine.report import figures
from autolora.engine.report.curves import SearchCurves


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved, still open to questions."""
    saved: list[Any] = []
    original: Callable[..., None] = figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: (saved.append(figure), original(figure, path)))
    return saved


def curves_of_layers(layers: int, bounds: np.ndarray | None = None) -> SearchCurves:
    """Random curves of `layers` layers, three components, at steps 0, 10 and 30."""
    alpha = np.random.default_rng(0).random((3, layers, 3))
    ranks = np.arange(3)[:, None] + np.arange(layers)[None]
    names = [f"layer.{i}.query" for i in range(layers)]
    return SearchCurves(names, np.array([0, 10, 30]), alpha, alpha, ranks, bounds)


@pytest.mark.parametrize("layers", [1, 5])
def test_alpha_has_a_panel_a_layer_with_its_own_lambda(tmp_path: Path, kept: list[Any], layers: int) -> None:
    bounds = np.array([0.1 * i for i in range(layers)])
    curves = curves_of_layers(layers, bounds)
    figures.alpha_trajectories(curves, tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").read_bytes()[:4] == b"\x89PNG"
    panels = [axes for axes in kept[0].axes if axes.get_visible()]
    assert len(panels) == layers
    for index, axes in enumerate(panels):
        *lines, bound = axes.lines
        assert axes.get_title() == f"{index} query"
        assert list(bound.get_ydata()) == [bounds[index]] * 2
        for component, line in enumerate(lines):
            assert list(line.get_xdata()) == [0, 10, 30]
            assert np.array_equal(line.get_ydata(), curves.alpha[:, index, component])
        assert len(lines) == 3


def test_where_alpha_does_not_decide_there_is_no_lambda(tmp_path: Path, kept: list[Any]) -> None:
    figures.alpha_trajectories(curves_of_layers(2), tmp_path / "a.png")
    assert [len(axes.lines) for axes in kept[0].axes if axes.get_visible()] == [3, 3]


def test_rank_evolution_has_a_bar_a_stretch(tmp_path: Path, kept: list[Any]) -> None:
    figures.rank_evolution(curves_of_layers(2), 4, tmp_path / "e.png")
    bars = [path.get_extents() for rows in kept[0].axes[0].collections for path in rows.get_paths()]
    assert [(bar.x0, bar.x1, bar.y0) for bar in bars] == [
        (0, 5, -0.5), (5, 20, -0.5), (20, 30, -0.5), (0, 5, 0.5), (5, 20, 0.5), (20, 30, 0.5),
    ]  # fmt: skip


def test_losses_may_have_gaps(tmp_path: Path, kept: list[Any]) -> None:
    lines = [
        {"step": 10, "train_loss": 0.7, "val_loss": None},
        {"step": 20, "train_loss": 0.5, "val_loss": 0.6},
    ]
    figures.losses(lines, tmp_path / "l.png")
    train, validation = kept[0].axes[0].lines
    assert np.asarray(train.get_ydata(), dtype=float).tolist() == [0.7, 0.5]
    assert np.isnan(np.asarray(validation.get_ydata(), dtype=float)).tolist() == [True, False]
