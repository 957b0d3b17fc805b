"""The picture shows each line at its size, and only series that have runs."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from benchmarks.table1 import picture
from tests.helpers.table1_runs import runs


def test_points_are_means_at_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(picture, "save_figure", lambda figure, path: drawn.append(figure))
    small = runs({"rank 1": [0.4, 0.6], "head": [0.9, 0.9]}, parameters=10)
    large = runs({"rank 4": [0.3, 0.3]}, parameters=40)
    picture.draw_losses(pd.concat([small, large, runs({"eva": [0.2]}, task="b")]), tmp_path / "made.png")
    (figure,) = drawn
    first, second = figure.axes
    assert first.get_title() == "a (head alone: 0.900)"
    assert second.get_title() == "b"
    (line,) = first.containers
    assert line.lines[0].get_xydata().tolist() == [[10, 0.5], [40, 0.3]]
    assert second.containers[0].lines[0].get_color() != line.lines[0].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["equal ranks (1, 2, 4, 8)", "EVA"]
    plt.close(figure)


def test_the_panels_stand_two_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(picture, "save_figure", lambda figure, path: drawn.append(figure))
    picture.draw_losses(pd.concat([runs({"rank 1": [0.4]}, task=task) for task in "abc"]), tmp_path / "made.png")
    (figure,) = drawn
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    assert [axes.get_subplotspec().rowspan.start for axes in figure.axes] == [0, 0, 1, 1]
    assert [bool(axes.get_ylabel()) for axes in figure.axes[:3]] == [True, False, True]
    plt.close(figure)
