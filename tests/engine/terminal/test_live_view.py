"""The live view: never too high, every rank in its place, plain lines without a terminal."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console, ConsoleOptions, RenderResult

from engine.terminal import live_view
from engine.terminal.live_view import RankMap, SearchProgress

NAMES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(24) for p in "qv"]


def screen(width: int = 80) -> Console:
    """A terminal that keeps what it is shown."""
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=40, record=True, color_system="truecolor"
    )


def drawn(names: list[str], ranks: list[int], k: int, width: int = 80) -> list[str]:
    """The lines of a rank map."""
    console = screen(width)
    rank_map = RankMap(names, k)
    rank_map.ranks = ranks
    console.print(rank_map)
    return [line.rstrip() for line in console.export_text().rstrip("\n").split("\n")]


def test_a_row_is_a_projection_and_a_cell_a_block() -> None:
    names = ["0.query", "0.value", "1.query", "2.query", "2.value"]
    query, value, scale = drawn(names, [8, 0, 4, 1, 7], 8)
    assert query.split(maxsplit=1) == ["query", "██ ▄▄ ▁▁"]
    assert value.split(maxsplit=1) == ["value", "··    ▇▇"], "block 1 has no value projection"
    assert scale.split() == ["rank", "0", "·▂▃▅▆█", "8"]


def test_ranks_differ_in_colour() -> None:
    console = screen()
    rank_map = RankMap(["0.q", "1.q"], 8)
    rank_map.ranks = [0, 8]
    console.print(rank_map)
    page = console.export_html()
    assert page.count("color: #") >= 4


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
        progress.step(50)
        progress.show(50, 0.5, 0.25, [i % 9 for i in range(len(names))])
        options = console.options
        lines = console.render_lines(progress._live.renderable, options, pad=False)
    assert len(lines) <= 16
    assert all(sum(len(segment.text) for segment in line) <= width for line in lines)


def test_neighbours_share_a_cell_in_a_narrow_window() -> None:
    """80 blocks in 20 columns: a cell is the mean of five of them."""
    names = [f"{i}.q" for i in range(80)]
    row, scale = drawn(names, [8] * 40 + [0] * 40, 8, width=20)
    marks = row.removeprefix("q ")
    assert marks == "█" * 8 + "·" * 8
    assert len(scale) <= 20
    *_, scale = drawn(names, [1] * 80, 8, width=42)
    assert scale.endswith("a cell: 2 blocks")


def test_losses_mean_rank_and_bar_are_on_the_screen() -> None:
    console = screen()
    with SearchProgress(100, 0, NAMES, 8, console) as progress:
        progress.step(50)
        progress.show(50, 0.5, None, [2] * 24 + [3] * 24)
        progress.show(50, 0.5, 0.25, [2] * 24 + [3] * 24)
    text = console.export_text()
    assert "50/100" in text
    assert "L_tr 0.500  L_val 0.250  mean rank 2.50" in text
    assert "q_proj" in text


def test_without_a_terminal_there_are_lines_and_no_more_often_than_due(
    log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(live_view.time, "monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), force_terminal=False, record=True)
    with SearchProgress(100, 0, NAMES, 8, console) as progress:
        for step in range(1, 101):
            clock[0] += 1.0
            progress.step(step)
            progress.show(step, 0.5, None, [4] * 48)
    assert len(log_lines) == 9
    assert log_lines[0] == "INFO search 11/100  L_tr 0.500  L_val -  mean rank 4.00"
    assert "█" not in console.export_text()


def test_what_a_step_costs_does_not_grow_with_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The view is drawn so many times a second, however fast the steps are."""
    drawings: list[float] = []
    original = RankMap.__rich_console__

    def counted(self: RankMap, console: Console, options: ConsoleOptions) -> RenderResult:
        drawings.append(time.monotonic())
        yield from original(self, console, options)

    monkeypatch.setattr(RankMap, "__rich_console__", counted)
    started = time.monotonic()
    with SearchProgress(10_000, 0, NAMES, 8, screen()) as progress:
        for step in range(2000):
            progress.step(step)
            progress.show(step, 0.5, 0.5, [4] * 48)
    # One at the start and one at the end besides.
    assert len(drawings) <= 4 + live_view.REFRESHES_PER_SECOND * (time.monotonic() - started)
