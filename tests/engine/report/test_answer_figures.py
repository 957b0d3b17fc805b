"""The pictures of the answer show its numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolora.engine.report import answer_figures
from autolora.engine.report.answer import Answer, answer_of
from autolora.engine.report.answer_charts import OPAQUE, PALE
from tests.helpers.rank_records import answered_record


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of the figures that were saved."""
    saved: list[Any] = []
    monkeypatch.setattr(answer_figures, "save_figure", lambda figure, path: saved.append(figure.axes[0]))
    return saved


def answer() -> Answer:
    made = answer_of(answered_record(), 400)
    assert made is not None
    return made


def test_shares_have_a_bar_a_layer_with_its_interval(kept: list[Any]) -> None:
    answer_figures.shares(answer(), Path("s.png"))
    found = answer().shares
    assert [bar.get_width() for bar in kept[0].patches] == found["share"].tolist()
    assert [bar.get_alpha() for bar in kept[0].patches] == [OPAQUE, PALE, PALE]
    ends = np.array([segment[:, 0] for segment in kept[0].collections[0].get_segments()])
    assert ends[:, 0] == pytest.approx(found["low"].to_numpy())
    assert ends[:, 1] == pytest.approx(found["high"].to_numpy())


def test_the_curve_has_its_lines_bands_and_what_is_enough(kept: list[Any]) -> None:
    answer_figures.curve(answer(), Path("c.png"))
    everywhere, placed, enough, recorded = kept[0].lines
    assert list(everywhere.get_xdata()) == [400, 800, 1600, 3200]
    assert list(placed.get_ydata()) == answer().curve["placed by shares"]["kept"].tolist()
    assert list(enough.get_ydata()) == [95, 95]
    assert list(recorded.get_xdata()) == [1000, 1000]
    assert len(kept[0].collections) == 2
    assert kept[0].get_xscale() == "log"


def test_what_was_measured_is_drawn_under_its_name(tmp_path: Path) -> None:
    assert answer_figures.draw_answer(None, tmp_path) == {}
    made = answer_figures.draw_answer(answer(), tmp_path / "new")
    assert made == {"shares": tmp_path / "new" / "shares.png", "curve": tmp_path / "new" / "curve.png"}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in made.values())
    bare = answer_of(answered_record(), 0)
    assert list(answer_figures.draw_answer(bare, tmp_path)) == ["shares"]
