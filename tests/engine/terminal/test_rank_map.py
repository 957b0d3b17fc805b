"""The rank map in text: every rank in its place, numbers where there is room, and it fits the window."""

import io

import pytest
from rich.console import Console

from autolora.engine.terminal.rank_map import RankMap


def screen(width: int = 80, encoding: str = "utf-8") -> Console:
    """A terminal that keeps what it is shown."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=file, force_terminal=True, width=width, height=40, record=True, color_system="truecolor")


def drawn(names: list[str], ranks: list[int], k: int, width: int = 80, most_rows: int | None = None) -> list[str]:
    """The lines of a rank map."""
    console = screen(width)
    console.print(RankMap(names, k, ranks, most_rows))
    return [line.rstrip() for line in console.export_text().rstrip("\n").split("\n")]


NAMES = ["0.query", "0.value", "1.query", "2.query", "2.value"]


def test_a_row_is_a_projection_and_a_cell_a_block() -> None:
    assert drawn(NAMES, [8, 0, 4, 1, 7], 8) == [
        "block 0  1  2",
        "query 8  4  1",
        "value 0     7",
    ]


def test_where_a_number_has_no_room_the_rank_is_a_height() -> None:
    assert drawn(NAMES, [800, 0, 400, 100, 700], 800, width=12) == [
        "block 0 1 2",
        "query █ ▄ ▁",
        "value ·   ▇",
        " rank 0 ·▂▃▅",
    ]


def test_the_scale_shows_the_heights_from_0_to_k() -> None:
    *_, scale = drawn(NAMES, [0] * 5, 800, width=30)
    *_, narrow = drawn([f"{i}.q" for i in range(40)], [0] * 40, 8)
    assert "rank" not in scale, "numbers need no scale"
    assert narrow.split() == ["rank", "0", "·▂▃▅▆█", "8"]


def test_ranks_above_k_are_apart_from_each_other() -> None:
    """Ranks of 128 that no search chose were one long number where k had one digit."""
    names = ["0.query", "0.value", "1.query"]
    assert drawn(names, [128, 64, 16], 8) == [
        "block 0    1",
        "query 128   16",
        "value  64",
    ]
    assert drawn(names, [128, 64, 16], 8, width=11) == [
        "block 0 1",
        "query █ ▁",
        "value ▄",
        " rank 0 ·▂▃",
    ]


def test_layers_without_a_block_need_no_names_of_blocks() -> None:
    assert drawn(["classifier"], [2], 8) == ["classifier 2"]


def test_names_of_blocks_do_not_run_into_each_other() -> None:
    names = [f"{stack}.{i}.q" for stack in ("encoder", "decoder") for i in range(6)]
    head, _ = drawn(names, [1] * 12, 8)
    assert head == "block encoder 0   encoder 4   decoder 2"


def test_of_long_names_the_ends_are_shown() -> None:
    _, row, _ = drawn(["0.a_very_long_name_of_a_projection.first", "0.b.second"], [1, 2], 8, width=30)
    assert row.split() == ["first", "1"]
    names = ["0.a_very_long_name_of_a_projection", "0.a_very_long_name_of_another"]
    assert [line.split()[0] for line in drawn(names, [1, 2], 8, width=30)[1:]] == ["…rojection", "…f_another"]


def test_ranks_differ_in_colour() -> None:
    names = [f"{i}.q" for i in range(4)]
    *_, none, one, half, most, _ = screen().render(RankMap(names, 8, [0, 1, 4, 8]))
    assert [cell.text.strip() for cell in (none, one, half, most)] == ["0", "1", "4", "8"]
    assert len({cell.style for cell in (none, one, half, most)}) == 4


def test_neighbours_share_a_cell_in_a_narrow_window() -> None:
    """80 blocks in 16 columns: a cell is the mean of six of them."""
    names = [f"{i}.q" for i in range(80)]
    head, row, scale = drawn(names, [8] * 42 + [0] * 38, 8, width=20)
    assert head == "block 0  18 36 54 72"
    assert row == "    q " + "█" * 7 + "·" * 7
    assert len(scale) <= 20
    *_, scale = drawn(names, [1] * 80, 8, width=47)
    assert scale.endswith("a cell: 2 blocks")


def test_projections_beyond_the_rows_share_one() -> None:
    names = [f"0.{name}" for name in "abcde"]
    _, *rows = drawn(names, [8, 6, 1, 2, 3], 8, most_rows=3)
    assert [row.split() for row in rows] == [["a", "8"], ["b", "6"], ["3", "others,", "mean", "2"]]
    assert len(drawn(names, [8, 6, 1, 2, 3], 8)) == 6, "in the last words each has its own"


@pytest.mark.parametrize("width", [20, 80])
def test_it_can_be_printed_where_only_ascii_can(width: int) -> None:
    console = screen(width, "ascii")
    console.print(RankMap([f"{i}.a_projection_of_a_long_name" for i in range(40)], 8, [i % 9 for i in range(40)]))
    assert console.export_text().isascii()


def test_before_ranks_are_known_nothing_is_drawn() -> None:
    console = screen()
    console.print(RankMap(NAMES, 8))
    assert not console.export_text().strip()


def test_a_rank_that_is_not_decided_is_dim_and_a_line_says_what_that_means() -> None:
    console = screen()
    console.print(RankMap(["0.q", "1.q"], 8, [8, 7], undecided=[True, False]))
    row = next(line for line in console.export_text(styles=True).split("\n") if " q " in line)
    dim, bright = row.split("7")[0], row.split("8")[1]
    assert "\x1b[2;" in dim
    assert "\x1b[2;" not in bright
    lines = drawn(["0.q", "1.q"], [8, 7], 8)
    console.print(RankMap(["0.q", "1.q"], 8, [8, 7], undecided=[True, False]))
    assert [line.rstrip() for line in console.export_text().split("\n")][:3] == [
        *lines, "pale: not decided within this search",
    ]  # fmt: skip


def without_colours(width: int, **values: list[bool]) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(RankMap(NAMES, 8, [8, 0, 4, 1, 7], **values))
    return [line.rstrip() for line in file.getvalue().rstrip("\n").split("\n")]


def test_without_colours_it_has_a_question_mark() -> None:
    assert without_colours(80, undecided=[False, True, False, True, False]) == [
        "block 0  1  2",
        "query 8  4  1?",
        "value 0?    7",
        "with ?: not decided within this search",
    ]
    assert without_colours(80, undecided=[False] * 5) == without_colours(80)


def test_without_colours_or_room_their_number_is_said() -> None:
    shown = without_colours(9, undecided=[False, True, False, True, False])
    assert "?" not in "".join(shown)
    assert "2 of 5 ranks: not decided within this search" in " ".join(" ".join(shown).split())
