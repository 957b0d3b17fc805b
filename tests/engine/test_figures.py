"""The pictures show the numbers that they were given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import figures
from engine.ranks import LayerRank, RankRecord
from engine.trajectory import Trajectory


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved, still open to questions."""
    saved: list[Any] = []
    original: Callable[..., None] = figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: (saved.append(figure), original(figure, path)))
    return saved


def test_the_rank_map_has_a_cell_a_layer(tmp_path: Path, kept: list[Any]) -> None:
    ranks = {"layer.0.query": 3, "layer.0.value": 0, "layer.1.query": 8, "layer.2.value": 5}
    figures.rank_map(RankRecord(8, tuple(LayerRank(*pair) for pair in ranks.items())), tmp_path / "new" / "r.png")
    axes = kept[0].axes[0]
    image = axes.images[0]
    assert image.get_clim() == (0, 8)
    values = np.ma.filled(np.ma.masked_invalid(image.get_array()), -1).tolist()
    assert values == [[3, 8, -1], [0, -1, 5]]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "1", "2"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["query", "value"]
    written = {t.get_position(): t.get_text() for t in axes.texts}
    assert written == {(0, 0): "3", (1, 0): "8", (0, 1): "0", (2, 1): "5"}
    assert (tmp_path / "new" / "r.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("layers", [1, 5])
def test_alpha_has_a_panel_a_layer_with_its_own_lambda(tmp_path: Path, kept: list[Any], layers: int) -> None:
    history = Trajectory([f"layer.{i}.query" for i in range(layers)])
    for step in (0, 10, 30):
        history.add(step, torch.rand(layers, 3), torch.rand(layers, 3))
    bounds = [0.1 * i for i in range(layers)]
    figures.alpha_trajectories(history, bounds, tmp_path / "a.png")
    panels = [axes for axes in kept[0].axes if axes.get_visible()]
    assert len(panels) == layers
    for index, axes in enumerate(panels):
        *curves, bound = axes.lines
        assert axes.get_title() == f"{index} query"
        assert list(bound.get_ydata()) == [bounds[index]] * 2
        for component, curve in enumerate(curves):
            assert list(curve.get_xdata()) == [0, 10, 30]
            assert np.array_equal(curve.get_ydata(), np.stack(history.alpha)[:, index, component])
        assert len(curves) == 3


def test_losses_may_have_gaps(tmp_path: Path, kept: list[Any]) -> None:
    lines = [
        {"step": 10, "train_loss": 0.7, "val_loss": None},
        {"step": 20, "train_loss": 0.5, "val_loss": 0.6},
    ]
    figures.losses(lines, tmp_path / "l.png")
    train, validation = kept[0].axes[0].lines
    assert np.asarray(train.get_ydata(), dtype=float).tolist() == [0.7, 0.5]
    assert np.isnan(np.asarray(validation.get_ydata(), dtype=float)).tolist() == [True, False]
