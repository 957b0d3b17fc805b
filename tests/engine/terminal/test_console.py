"""Only the first of several processes speaks, and libraries speak up for errors alone."""

import logging
from collections.abc import Iterator

import pytest
from transformers.utils import logging as transformers_logging

from engine.terminal.console import console, inputs, log, show_log, told_once
from engine.terminal.loading import quiet_libraries


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
    first, second = ["cell begins", "7 rows are cut", "8 rows are cut"], ["cell begins", "9 rows are cut"]
    assert lines == [*first, *second, "7 rows are cut"]
