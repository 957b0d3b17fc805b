"""The live view of a search: never too high, its numbers on the screen, plain lines without a terminal."""

import io

import pytest
from rich.console import Console

from autolora.engine.terminal import ticker
from autolora.engine.terminal.live_view import RetrainProgress, SearchProgress

NAMES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(24) for p in "qv"]


def screen(width: int = 80) -> Console:
    """A terminal that keeps what it is shown."""
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=40, record=True, color_system="truecolor"
    )


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        [f"m.layers.{i}.{p}" for i in range(80) for p in ("q", "k", "v", "o", "gate", "up", "down")],
        [f"m.layers.{i}.experts.{j}.up" for i in range(4) for j in range(64)],
        ["a_layer_withno_number"],
    ],
    ids=["48 layers", "560 layers", "experts", "one"],
)
def test_it_is_at_most_16_lines_and_fits_the_window(names: list[str], width: int) -> None:
    console = screen(width)
    with SearchProgress(100, 0, names, 8, console) as progress:
        progress.show(50, 0.5, 0.25, [i % 9 for i in range(len(names))])
        lines = console.render_lines(progress.view, console.options, pad=False)
    assert 4 <= len(lines) + (len(names) == 1) <= 16
    assert all(sum(len(segment.text) for segment in line) <= width for line in lines)


def test_losses_mean_rank_map_and_bar_are_on_the_screen() -> None:
    console = screen()
    with SearchProgress(100, 0, NAMES, 8, console) as progress:
        progress.show(49, 0.5, None, [2] * 24 + [3] * 24)
        progress.show(50, 0.5, 0.25, [2] * 24 + [3] * 24)
        progress.step(51)
    text = console.export_text()
    assert "51/100" in text
    assert "L_tr 0.500  L_val 0.250  mean rank 2.50" in text
    assert "q_proj 2  2  2" in text


def test_without_a_terminal_there_are_lines_and_no_more_often_than_due(
    log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(ticker.time, "monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), force_terminal=False, record=True)
    with SearchProgress(100, 0, NAMES, 8, console) as progress:
        for step in range(1, 101):
            clock[0] += 1.0
            if step % 5 == 0:
                progress.show(step, 0.5, None, [4] * 48)
            progress.step(step)
    assert len(log_lines) == 9
    assert log_lines[0] == "INFO search 11/100  1.0/s, 1:29 left  L_tr 0.500  L_val -  mean rank 4.00", (
        "the numbers shown last"
    )
    assert "q_proj" not in console.export_text()


def test_a_retraining_shows_loss_and_learning_rate_in_a_line_and_on_the_screen(
    log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(ticker.time, "monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), force_terminal=False)
    with RetrainProgress(40, 0, console) as progress:
        assert not progress.due
        clock[0] = 10.5
        assert progress.due
        progress.show(21, 0.6934, 1.5e-3)
        assert not progress.due
    assert log_lines == ["INFO retrain 21/40  2.0/s, 0:10 left  loss 0.693  learning rate 0.0015"]
    monkeypatch.undo()
    shown = screen()
    with RetrainProgress(40, 0, shown) as progress:
        progress.show(21, 0.6934, 1.5e-3)
    text = shown.export_text()
    assert "21/40" in text
    assert "loss 0.693  learning rate 0.0015" in text


@pytest.mark.parametrize(("loss", "words"), [(-1e-9, "loss 0.000"), (-0.0, "loss 0.000"), (-0.5, "loss -0.500")])
def test_a_loss_that_rounds_to_0_has_no_sign(loss: float, words: str) -> None:
    """A loss below 0 itself is possible: that of numbers whose density is above 1."""
    shown = screen()
    with RetrainProgress(40, 0, shown) as progress:
        progress.show(21, loss, 1.5e-3)
    assert words in shown.export_text()
