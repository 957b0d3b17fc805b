"""A run whose output nobody takes, or whose terminal knows only ASCII, ends as any other: its results are files."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import run
from autolora.engine.run.folder import RunFolder
from tests.helpers.processes import Process
from tests.helpers.run_folders import WHOLE, names

pytestmark = pytest.mark.trains
FEW = ("--search.steps", "2", "--retrain.max_steps", "1")


def as_a_program() -> None:
    """`run.main` in the fork is what `python run.py` calls."""
    run.main = lambda argv, main=run.main: ended(main, argv)  # type: ignore[assignment]


def ended(main: Callable[[list[str]], int], argv: list[str]) -> int:
    run.main = main  # type: ignore[assignment]
    return run.program(argv)


def full() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    as_a_program()


def closed() -> None:
    os.close(1)
    sys.stdout = None  # type: ignore[assignment]
    as_a_program()


def read_no_further() -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    os.close(reading)
    as_a_program()


def only_ascii() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="ascii")  # type: ignore[union-attr]
    as_a_program()


@pytest.mark.slow  # whole runs in processes of their own
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("prepare", "code", "line"),
    [
        (full, 2, "error: standard output could not be written (No space left on device); the rest is done\n"),
        (closed, 0, ""),
        (read_no_further, 0, ""),
    ],
)
def test_a_run_goes_on_to_its_end_without_an_output(
    make_argv: Callable[[Path], list[str]], tmp_path: Path, prepare: Callable[[], None], code: int, line: str
) -> None:
    process = Process([*make_argv(tmp_path), *FEW], tmp_path / "output", prepare)
    assert process.wait() == code, process.output.read_text()
    assert process.output.read_text() == line
    assert names(RunFolder(tmp_path / "runs" / "tiny")) == WHOLE


def test_an_ascii_terminal_shows_a_finished_run(finished_run: Callable[..., RunFolder], tmp_path: Path) -> None:
    place = tmp_path / "é☃[red]"
    place.symlink_to(finished_run("bert").root)
    process = Process(["--show", str(place)], tmp_path / "output", only_ascii)
    assert process.wait() == 0, process.output.read_text()
    shown = process.output.read_bytes()
    assert shown.isascii()
    assert rb"\xe9\u2603[red]/ranks.json" in shown
