"""The picture of the outer loss over the passes shows the lines that it was given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolora.engine.study import descent_figure
from autolora.engine.study.descent import Descent, TaskDescents
from autolora.engine.study.descent_figure import outer_loss_over_passes


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved, still open to questions."""
    saved: list[Any] = []
    original = descent_figure.save_figure
    monkeypatch.setattr(
        descent_figure, "save_figure", lambda figure, path: (saved.append(figure), original(figure, path))
    )
    return saved


def descent(passes: int, error: float | None = None) -> Descent:
    at = np.arange(1.0, passes + 1)
    return Descent(at, 1 / at, None if error is None else np.full(passes, error))


def test_a_panel_a_task_with_a_line_a_row_and_a_band_of_the_error(tmp_path: Path, kept: list[Any]) -> None:
    first = TaskDescents("t", {"darts": descent(4, 0.25), "cg": descent(8)}, [0, 1])
    outer_loss_over_passes([first, TaskDescents("u", {"cg": descent(1)}, None)], tmp_path / "p.png")
    panel, other = kept[0].axes
    darts, cg = panel.lines
    assert [line.get_label() for line in panel.lines] == ["darts", "cg"]
    assert darts.get_xydata().tolist() == [[1, 1], [2, 0.5], [3, pytest.approx(1 / 3)], [4, 0.25]]
    assert cg.get_xdata()[-1] == 8
    (band,) = panel.collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0.0, 1.25)
    assert (panel.get_title(), other.get_title()) == ("t, mean over the seeds 0, 1", "u")
    assert other.lines[0].get_marker() == "o", "a single point draws no line"
    assert panel.get_xlabel() == "forward + backward passes so far"
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("seeds", "title"),
    [([], "t, each line over its own seeds"), ([3], "t, seed 3"), (list(range(9)), "t, mean over 9 seeds")],
)
def test_the_title_says_over_which_seeds_the_lines_are(
    tmp_path: Path, kept: list[Any], seeds: list[int], title: str
) -> None:
    outer_loss_over_passes([TaskDescents("t", {"cg": descent(2)}, seeds)], tmp_path / "p.png")
    assert kept[0].axes[0].get_title() == title


def test_no_two_rows_are_drawn_alike(tmp_path: Path, kept: list[Any]) -> None:
    lines = {f"row {number}": descent(2) for number in range(12)}
    outer_loss_over_passes([TaskDescents("t", lines, None)], tmp_path / "p.png")
    looks = {(line.get_color(), line.get_linestyle()) for line in kept[0].axes[0].lines}
    assert len(looks) == 12
