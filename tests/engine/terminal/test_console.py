"""Only the first of several processes speaks, and libraries speak up for errors alone."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from transformers.utils import logging as transformers_logging

from autolora.engine.terminal.console import console, inputs, log, show_log, told_once
from autolora.engine.terminal.loading import quiet_libraries
from tests.helpers.places import ROOT


@pytest.fixture(autouse=True)
def fresh_logger() -> Iterator[None]:
    """The program's logger as before its first use; afterwards as it was."""
    kept = console.quiet, log.handlers[:], log.level, log.propagate
    log.handlers[:] = []
    log.propagate = True  # else pytest, too, puts its handlers here
    yield
    console.quiet, log.handlers[:], log.level, log.propagate = kept[0], kept[1], kept[2], kept[3]


@pytest.mark.parametrize("speaks", [True, False])
def test_a_process_that_does_not_speak_shows_nothing(speaks: bool, capsys: pytest.CaptureFixture[str]) -> None:
    show_log(speaks=speaks)
    log.info("a line")
    log.error("an error")
    assert "".join(capsys.readouterr()).split("\n") == (["a line", "an error", ""] if speaks else [""])
    assert not log.propagate


def test_a_warning_says_that_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    show_log()
    log.warning("%d steps are skipped", 3)
    assert capsys.readouterr().out == "warning: 3 steps are skipped\n"


@pytest.mark.trains
@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_file_is_no_terminal_even_if_it_gets_colours(variable: str) -> None:
    code = "from autolora.engine.terminal.console import console; print(console.is_terminal, console.is_interactive)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {variable: "1"}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "True False\n"


def test_the_traceback_of_an_exception_is_shown_below_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_log()
    try:
        {}["layer.0"]
    except KeyError as error:
        log.error("cell seed-0 failed", exc_info=error)
    lines = "".join(capsys.readouterr()).splitlines()
    assert lines[:2] == ["cell seed-0 failed", "Traceback (most recent call last):"]
    assert any('{}["layer.0"]' in line for line in lines)
    assert lines[-1] == "KeyError: 'layer.0'"


def test_a_second_call_adds_no_second_line() -> None:
    show_log()
    show_log()
    assert len(log.handlers) == 1


def test_libraries_speak_up_for_errors() -> None:
    quiet_libraries()
    assert transformers_logging.get_verbosity() == logging.ERROR


def test_a_line_about_the_rows_is_told_once_by_several_runs(capsys: pytest.CaptureFixture[str]) -> None:
    show_log()
    with told_once():
        for run in (1, 2):
            log.info("cell begins")
            inputs.warning("%d rows are cut", 7)
            inputs.warning("%d rows are cut", 7 + run)
    inputs.warning("7 rows are cut")
    lines = "".join(capsys.readouterr()).splitlines()
    told = ["cell begins", "7 rows are cut", "8 rows are cut", "cell begins", "9 rows are cut", "7 rows are cut"]
    assert [line.removeprefix("warning: ") for line in lines] == told


def test_a_fact_that_the_next_training_shares_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    show_log()
    with told_once():
        for free in (9, 8):
            log.info("memory: 2 GiB, %d GiB free", free, extra={"once": ("memory", 2)})
        log.info("memory: 3 GiB, 8 GiB free", extra={"once": ("memory", 3)})
    log.info("memory: 2 GiB, 7 GiB free", extra={"once": ("memory", 2)})
    lines = "".join(capsys.readouterr()).splitlines()
    assert lines == ["memory: 2 GiB, 9 GiB free", "memory: 3 GiB, 8 GiB free", "memory: 2 GiB, 7 GiB free"]


def test_a_handler_that_a_run_adds_gets_every_line() -> None:
    """log.txt of each run of a study has its warnings."""
    show_log()
    told: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    with told_once():
        for _ in (1, 2):
            keep = Keep()
            log.addHandler(keep)
            inputs.warning("7 rows are cut")
            log.removeHandler(keep)
    assert told == ["7 rows are cut"] * 2
